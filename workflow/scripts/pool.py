"""Pool the seeds of a sweep on one data set."""

from pathlib import Path

from edgeward.pipeline.job import Job
from edgeward.pipeline.paths import ResultPaths


def main(job: Job) -> dict[str, float]:
    from edgeward.safety.config import SafetyGroup
    from edgeward.safety.pooled import run

    job.loaded()
    folders: dict[tuple[str, str], dict[int, Path]] = {}
    for c in job.cfg["candidates"]:
        folder = ResultPaths(**c).assess.folder
        folders.setdefault((c["model"], c["recipe"]), {})[c["seed"]] = folder
    return run(
        SafetyGroup.model_validate(job.cfg["safety"]),
        prepared=Path(job.input.card).parent,
        folders=folders,
        references=job.cfg["references"],
        out=Path(job.output.pooled),
        folds=[path.parent for path in job.paths("folds")],
    )


if "snakemake" in globals():
    Job.of("pool", snakemake).execute(main, tracked=False)  # noqa: F821
