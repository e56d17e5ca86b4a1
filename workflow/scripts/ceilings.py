"""Measure the ceilings of a device."""

from pathlib import Path

from edgeward.pipeline.job import Job
from edgeward.pipeline.paths import OUTBOX


def main(job: Job) -> dict[str, float]:
    from edgeward.profiling.ceilings import run
    from edgeward.profiling.config import DeviceCeilingsConfig
    from edgeward.tracking.outbox import quiet

    job.loaded()
    with quiet(OUTBOX):
        return run(
            DeviceCeilingsConfig.model_validate(job.cfg["device"]), out=Path(job.output.ceilings)
        )


if "snakemake" in globals():
    Job.of("ceilings", snakemake).execute(main, tracked=False, alone=True)  # noqa: F821
