"""Prepare a data set."""

import os
from pathlib import Path

from edgeward.pipeline.job import Job


def main(job: Job) -> dict[str, float]:
    from edgeward.data.config import DataConfig
    from edgeward.data.stage import run

    job.loaded()
    root = os.environ.get("EDGEWARD_DATA_ROOT")
    return run(
        DataConfig.model_validate(job.cfg["data"]),
        out=Path(job.output.card).parent,
        data_root=Path(root) if root else None,
    )


if "snakemake" in globals():
    Job.of("prepare", snakemake).execute(main)  # noqa: F821
