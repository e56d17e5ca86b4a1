"""Time candidates in turns on a device."""

from pathlib import Path
from typing import Any

from edgeward.pipeline.job import Job
from edgeward.pipeline.paths import OUTBOX, ResultPaths


def _member(job: Job, member: dict[str, Any]) -> dict[str, Any]:
    """Add the file that the device takes of a candidate, or why it takes none."""
    from edgeward.records.port import taken

    at = ResultPaths(**member)
    mine = [p for p in job.paths("models") if at.export.folder in p.parents]
    file, refused = taken(mine, at.export.onnx)
    return {**member, "file": file, "refused": refused}


def main(job: Job) -> dict[str, float]:
    from edgeward.profiling.config import ProfileConfig
    from edgeward.profiling.interleave import run
    from edgeward.tracking.outbox import quiet

    job.loaded()
    groups = [[_member(job, member) for member in group] for group in job.cfg["groups"]]
    with quiet(OUTBOX):
        return run(
            ProfileConfig.model_validate(job.cfg["profile"]),
            groups,
            out=Path(job.output.comparison),
        )


if "snakemake" in globals():
    Job.of("interleave", snakemake).execute(main, tracked=False, alone=True)  # noqa: F821
