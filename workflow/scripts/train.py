"""Train one model on one prepared data set."""

from pathlib import Path

from edgeward.pipeline.job import Job


def main(job: Job) -> dict[str, float]:
    from edgeward.models.config import ModelConfig
    from edgeward.training.config import TrainConfig
    from edgeward.training.stage import run

    job.loaded()
    prepared = Path(job.input.card).parent
    return run(
        ModelConfig.model_validate(job.cfg["model"]),
        TrainConfig.model_validate(job.cfg["train"]),
        seed=job.cfg["seed"],
        prepared=prepared,
        out=Path(job.output.model).parent,
        work=job.work(Path(job.input.card), *job.paths("weights")),
        threads=job.threads,
        live=job.live(),
    )


if "snakemake" in globals():
    Job.of("train", snakemake).execute(main)  # noqa: F821
