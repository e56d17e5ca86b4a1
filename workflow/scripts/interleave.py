"""Time candidates in turns on a device."""

from pathlib import Path

from edgeward.pipeline.job import Job
from edgeward.pipeline.paths import OUTBOX, ResultPaths


def main(job: Job) -> dict[str, float]:
    from edgeward.profiling.config import ProfileConfig
    from edgeward.profiling.interleave import run
    from edgeward.tracking.outbox import quiet

    job.loaded()
    groups = [
        [{**member, "file": ResultPaths(**member).export.onnx} for member in group]
        for group in job.cfg["groups"]
    ]
    with quiet(OUTBOX):
        return run(
            ProfileConfig.model_validate(job.cfg["profile"]),
            groups,
            out=Path(job.output.comparison),
        )


if "snakemake" in globals():
    Job.of("interleave", snakemake).execute(main, tracked=False, alone=True)  # noqa: F821
