"""Judge model.onnx on the test split."""

from pathlib import Path

from edgeward.pipeline.job import Job


def main(job: Job) -> dict[str, float]:
    from edgeward.safety.config import SafetyGroup
    from edgeward.safety.stage import run

    job.loaded()
    reference = job.paths("reference")
    return run(
        SafetyGroup.model_validate(job.cfg["safety"]),
        model=Path(job.input.model),
        prepared=Path(job.input.card).parent,
        out=Path(job.output.safety).parent,
        reference=reference[0].parent if reference else None,
        threads=job.threads,
    )


if "snakemake" in globals():
    Job.of("assess", snakemake).execute(main)  # noqa: F821
