"""Write a program as a file of another runtime, or why it cannot be one."""

from pathlib import Path

from edgeward.pipeline.job import Job


def main(job: Job) -> dict[str, float]:
    from edgeward.export.config import port_config
    from edgeward.export.port import run

    job.loaded()
    return run(
        port_config(job.cfg["export"]),
        program=Path(job.input.program),
        recipe=Path(job.input.recipe),
        prepared=Path(job.input.card).parent,
        reference=Path(job.input.reference),
        record=Path(job.output.record),
        files=Path(job.output.files),
        threads=job.threads,
    )


if "snakemake" in globals():
    Job.of("port", snakemake).execute(main, tracked=False)  # noqa: F821
