"""Write the page of a sweep."""

from pathlib import Path

from edgeward.pipeline.job import Job
from edgeward.pipeline.paths import ResultPaths


def main(job: Job) -> dict[str, float]:
    from edgeward.reporting.stage import run

    job.loaded()
    devices = tuple(job.cfg["device"])
    return run(
        {k: v for k, v in job.cfg.items() if k != "candidates"},
        [ResultPaths(**c, devices=devices) for c in job.cfg["candidates"]],
        out=Path(job.output.page).parent,
        scaled=list(zip(job.paths("builds"), job.paths("sizes"), strict=True)),
        turns=job.paths("turns"),
        pooled=job.paths("pooled"),
    )


if "snakemake" in globals():
    Job.of("report", snakemake).execute(main)  # noqa: F821
