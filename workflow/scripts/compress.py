"""Apply a recipe to a trained model."""

from pathlib import Path

from edgeward.pipeline.job import Job


def main(job: Job) -> dict[str, float]:
    from edgeward.compression.config import RecipeConfig
    from edgeward.compression.stage import run

    job.loaded()
    recipe = RecipeConfig.model_validate(job.cfg["compress"])
    teachers = dict(zip(recipe.teachers, job.paths("teachers"), strict=True))
    return run(
        recipe,
        seed=job.cfg["seed"],
        checkpoint=Path(job.input.model),
        prepared=Path(job.input.card).parent,
        out=Path(job.output.program).parent,
        work=job.work(Path(job.input.card), Path(job.input.model), *teachers.values()),
        threads=job.threads,
        live=job.live(),
        teachers=teachers,
    )


if "snakemake" in globals():
    Job.of("compress", snakemake).execute(main)  # noqa: F821
