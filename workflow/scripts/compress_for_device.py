"""Apply a recipe to a trained model, for a device on which its operators are timed."""

from pathlib import Path

from edgeward.pipeline.job import Job
from edgeward.pipeline.paths import OUTBOX, Ceilings


def main(job: Job) -> dict[str, float]:
    from edgeward.compression.config import RecipeConfig
    from edgeward.compression.stage import run
    from edgeward.data.store import open_prepared
    from edgeward.export.config import export_config
    from edgeward.profiling.config import ProfileConfig
    from edgeward.profiling.kernels import open_bench
    from edgeward.tracking.outbox import quiet

    job.loaded()
    recipe = RecipeConfig.model_validate(job.cfg["compress"])
    device = ProfileConfig.model_validate(job.cfg["device"])
    teachers = dict(zip(recipe.teachers, job.paths("teachers"), strict=True))
    prepared = Path(job.input.card).parent
    with (
        quiet(OUTBOX),
        open_bench(
            device,
            export_config(job.cfg["export"]),
            Ceilings(device.name).kernels,
            {"input_range": open_prepared(prepared).card.input_range},
        ) as bench,
    ):
        return run(
            recipe,
            seed=job.cfg["seed"],
            checkpoint=Path(job.input.model),
            prepared=prepared,
            out=Path(job.output.program).parent,
            work=job.work(Path(job.input.card), Path(job.input.model), *teachers.values()),
            threads=1,  # what it finds shall not depend on the machine's cores
            live=job.live(),
            teachers=teachers,
            bench=bench,
        )


if "snakemake" in globals():
    Job.of("compress", snakemake).execute(main, alone=True)  # noqa: F821
