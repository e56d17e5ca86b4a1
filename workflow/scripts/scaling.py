"""Export one untrained network at several input sizes."""

from pathlib import Path

from edgeward.core.job import Job


def main(job: Job) -> dict[str, float]:
    from edgeward.compression.config import RecipeConfig
    from edgeward.export.config import ExportConfig
    from edgeward.models.config import ModelConfig
    from edgeward.scaling.config import ScalingConfig
    from edgeward.scaling.stage import run

    job.loaded()
    return run(
        ModelConfig.model_validate(job.cfg["model"]),
        RecipeConfig.model_validate(job.cfg["compress"]),
        ExportConfig.model_validate(job.cfg["export"]),
        ScalingConfig.model_validate(job.cfg["scaling"]),
        builds=[Path(path) for path in job.output.builds],
        threads=job.threads,
    )


if "snakemake" in globals():
    Job.of("scaling", snakemake).execute(main)  # noqa: F821
