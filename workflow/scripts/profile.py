"""Measure model.onnx on a device."""

from pathlib import Path

from edgeward.pipeline.job import Job
from edgeward.pipeline.paths import OUTBOX


def main(job: Job) -> dict[str, float]:
    from edgeward.profiling.config import ProfileConfig
    from edgeward.profiling.stage import run
    from edgeward.records.port import taken
    from edgeward.tracking.outbox import quiet

    job.loaded()
    shipped = Path(job.input.reference)
    model, refused = taken(job.paths("model"), shipped)
    with quiet(OUTBOX):
        return run(
            ProfileConfig.model_validate(job.cfg["profile"]),
            model=model,
            shipped=shipped,
            refused=refused,
            ceilings=Path(job.input.ceilings),
            out=Path(job.output.profile),
        )


if "snakemake" in globals():
    Job.of("profile", snakemake).execute(main, alone=True)  # noqa: F821
