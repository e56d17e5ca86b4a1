"""Write the page of a sweep."""

from pathlib import Path

from edgeward.core.job import Job
from edgeward.core.results import evidence


def main(job: Job) -> dict[str, float]:
    from edgeward.reporting.stage import run

    job.loaded()
    candidates = [evidence(c, job.cfg["device"]) for c in job.cfg["candidates"]]
    sweep = {k: v for k, v in job.cfg.items() if k != "candidates"}
    return run(sweep, candidates, out=Path(job.output.page).parent)


if "snakemake" in globals():
    Job.of("report", snakemake).execute(main)  # noqa: F821
