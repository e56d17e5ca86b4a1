"""Measure one untrained network at one input size."""

from pathlib import Path

from edgeward.pipeline.job import Job
from edgeward.pipeline.paths import OUTBOX


def main(job: Job) -> dict[str, float]:
    from edgeward.profiling.config import ProfileConfig
    from edgeward.scaling.measure import run
    from edgeward.tracking.outbox import quiet

    job.loaded()
    with quiet(OUTBOX):
        return run(
            ProfileConfig.model_validate(job.cfg["profile"]),
            build=Path(job.input.build),
            model=Path(job.input.export) / "model.onnx",
            out=Path(job.output.profile),
            ceilings=Path(job.input.ceilings),
        )


if "snakemake" in globals():
    Job.of("scaling", snakemake).execute(main, alone=True)  # noqa: F821
