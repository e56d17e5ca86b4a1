"""Deal a prepared data set for one turn of its cross-validation."""

from pathlib import Path

from edgeward.pipeline.job import Job


def main(job: Job) -> dict[str, float]:
    from edgeward.data.config import DataConfig
    from edgeward.data.fold import run

    job.loaded()
    return run(
        DataConfig.model_validate(job.cfg["data"]),
        prepared=Path(job.input.card).parent,
        fold=int(job.wildcards["fold"]),
        out=Path(job.output.card).parent,
    )


if "snakemake" in globals():
    Job.of("fold", snakemake).execute(main, tracked=False)  # noqa: F821
