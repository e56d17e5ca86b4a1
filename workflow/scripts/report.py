"""Write the page of a sweep."""

from pathlib import Path

from edgeward.pipeline.job import Job
from edgeward.pipeline.paths import evidence, scaled


def main(job: Job) -> dict[str, float]:
    from edgeward.reporting.stage import run

    job.loaded()
    candidates = [evidence(c, job.cfg["device"]) for c in job.cfg["candidates"]]
    networks = scaled(job.cfg["scaled"], job.cfg["sizes"], job.cfg["device"][0])
    sweep = {k: v for k, v in job.cfg.items() if k != "candidates"}
    turns = [p for p in map(Path, job.input.evidence) if p.parent.name == "interleaved"]
    pooled = [p for p in map(Path, job.input.evidence) if p.parent.name == "pooled"]
    out = Path(job.output.page).parent
    return run(sweep, candidates, out=out, scaled=networks, turns=turns, pooled=pooled)


if "snakemake" in globals():
    Job.of("report", snakemake).execute(main)  # noqa: F821
