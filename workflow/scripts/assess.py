"""Judge model.onnx on the test split."""

from pathlib import Path

from edgeward.pipeline.job import Job


def main(job: Job) -> dict[str, float]:
    from edgeward.safety.config import DenseConfig, SafetyConfig
    from edgeward.safety.stage import run
    from edgeward.tasks.segmentation.stage import run as run_dense

    job.loaded()
    dense = "segmentation" in job.cfg["safety"]
    config = DenseConfig if dense else SafetyConfig
    reference = job.paths("reference")
    return (run_dense if dense else run)(
        config.model_validate(job.cfg["safety"]),
        model=Path(job.input.model),
        prepared=Path(job.input.card).parent,
        out=Path(job.output.safety).parent,
        reference=reference[0].parent if reference else None,
        threads=job.threads,
    )


if "snakemake" in globals():
    Job.of("assess", snakemake).execute(main)  # noqa: F821
