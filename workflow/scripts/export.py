"""Write model.onnx and check it."""

from pathlib import Path

from edgeward.pipeline.job import Job


def main(job: Job) -> dict[str, float]:
    from edgeward.export.config import export_config
    from edgeward.export.stage import run

    job.loaded()
    return run(
        export_config(job.cfg["export"]),
        program=Path(job.input.program),
        recipe=Path(job.input.recipe),
        prepared=Path(job.input.card).parent,
        out=Path(job.output.model).parent,
        threads=job.threads,
    )


if "snakemake" in globals():
    Job.of("export", snakemake).execute(main)  # noqa: F821
