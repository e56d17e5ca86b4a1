"""Export one untrained network for one input size."""

from pathlib import Path

from edgeward.pipeline.job import Job


def main(job: Job) -> dict[str, float]:
    from edgeward.compression.config import RecipeConfig
    from edgeward.export.config import export_config
    from edgeward.models.config import ModelConfig
    from edgeward.scaling.config import ScalingConfig
    from edgeward.scaling.stage import run

    job.loaded()
    return run(
        ModelConfig.model_validate(job.cfg["model"]),
        RecipeConfig.model_validate(job.cfg["compress"]),
        export_config(job.cfg["export"]),
        ScalingConfig.model_validate(job.cfg["scaling"]),
        size=int(job.wildcards["size"]),
        build=Path(job.output.build),
        out=Path(job.output.export),
        threads=job.threads,
    )


if "snakemake" in globals():
    Job.of("scaling", snakemake).execute(main)  # noqa: F821
