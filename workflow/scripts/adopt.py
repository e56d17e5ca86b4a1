"""Take a finished file into the place of what compress and export write."""

from pathlib import Path

from edgeward.pipeline.job import Job


def main(job: Job) -> dict[str, float]:
    from edgeward.compression.config import RecipeConfig
    from edgeward.export.adopt import run
    from edgeward.export.config import export_config
    from edgeward.models.config import ModelConfig

    job.loaded()
    return run(
        ModelConfig.model_validate(job.cfg["model"]),
        RecipeConfig.model_validate(job.cfg["compress"]),
        export_config(job.cfg["export"]),
        seed=job.cfg["seed"],
        file=Path(job.input.file),
        prepared=Path(job.input.card).parent,
        built=Path(job.output.recipe).parent,
        out=Path(job.output.model).parent,
        threads=job.threads,
    )


if "snakemake" in globals():
    Job.of("export", snakemake).execute(main)  # noqa: F821
