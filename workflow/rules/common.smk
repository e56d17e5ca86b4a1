"""The plan of the chosen sweep, and the functions that give each rule its slice and inputs."""

import os
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError

BASE = Path(workflow.basedir)
LIBRARY = BASE / "src" / "edgeward"
sys.path.insert(0, str(BASE / "src"))

from edgeward.pipeline.closure import closures
from edgeward.pipeline.compose import names, roots
from edgeward.pipeline.environment import offer
from edgeward.pipeline.plan import Candidate, Plan, check_settings
from edgeward.pipeline.tasks import tasks
from edgeward.core.errors import UserError
from edgeward.core.io import write_json
from edgeward.pipeline.job import OUTBOX, STATE
from edgeward.pipeline.paths import checkpoint, evidence, kept, scaled
from edgeward.reporting.summary import table
from edgeward.tracking.session import Session, deliver_command

# The files of the working directory come before the project's.
ROOTS = roots()

try:
    check_settings(config)
    offer(BASE, config)
    PLAN = Plan.load(
        ROOTS,
        config.get("sweep", "default"),
        tuple(config.get("overrides", ())),
    )
except UserError as error:
    raise WorkflowError(str(error)) from None

SESSION = Session(OUTBOX)
TASKS = tasks(ROOTS)


wildcard_constraints:
    data="|".join(names(ROOTS, "data")),
    model="|".join(names(ROOTS, "model")),
    recipe="|".join(names(ROOTS, "compress")),
    device="|".join(names(ROOTS, "profile")),
    seed=r"\d+",
    sweep=PLAN.name,
    size=r"\d+",


# The library files that each stage imports: a rule that lists them is run again when they change.
WATCHED = closures(LIBRARY, (BASE / "workflow" / "scripts").glob("*.py"), STATE / "closures.json")


def code(stage):
    """List the library files behind a stage, relative, so that a moved project stays up to date."""
    return [os.path.relpath(file) for file in WATCHED[stage]]


def sliced(function, *args):
    """Call a method of the plan; its errors are for the user."""
    try:
        return function(*args)
    except UserError as error:
        raise WorkflowError(str(error)) from None


def candidate_of(wildcards):
    """Return the candidate that a job's wildcards name."""
    return Candidate(
        wildcards.data, wildcards.model, int(wildcards.seed), wildcards.recipe
    )


def prepare_slice(wildcards):
    return sliced(PLAN.prepare, wildcards.data)


def train_slice(wildcards):
    return sliced(PLAN.train, wildcards.data, wildcards.model, int(wildcards.seed))


def compress_slice(wildcards):
    return sliced(PLAN.stage, "compress", candidate_of(wildcards))


def teachers(wildcards):
    """List the checkpoints of the models that a recipe distils from."""
    c = candidate_of(wildcards)
    named = sliced(PLAN.taught_by, c.data, c.model, c.recipe)
    return [str(checkpoint(c.data, name, c.seed)) for name in named]


def export_slice(wildcards):
    return sliced(PLAN.stage, "export", candidate_of(wildcards))


def profile_slice(wildcards):
    return sliced(PLAN.stage, "profile", candidate_of(wildcards), wildcards.device)


def ceilings_slice(wildcards):
    return sliced(PLAN.ceilings, wildcards.device)


def interleave_slice(wildcards):
    return sliced(PLAN.interleave, wildcards.device)


def interleaved_models(wildcards):
    """List the files that are timed in turns."""
    members = dict.fromkeys(c for group in PLAN.interleaved for c in group)
    return [str(evidence(c._asdict(), [])["paths"]["onnx"]) for c in members]


def interleaved_files():
    """List the comparisons in turns, one per device, if the sweep asks for any."""
    return expand(
        "results/report/{sweep}/interleaved/{device}.json",
        sweep=PLAN.name if PLAN.interleaved else [],
        device=PLAN.sweep.device,
    )


def assess_slice(wildcards):
    return sliced(PLAN.stage, "assess", candidate_of(wildcards))


def data_for(task):
    """Return the regular expression of the data sets of a task."""
    return "|".join(name for name, its in TASKS.items() if its == task)


def reference_outputs(wildcards):
    """Return what `assess` kept of the reference candidate, or nothing if this is the reference."""
    recipe = sliced(PLAN.reference, wildcards.data, wildcards.model)
    if wildcards.recipe == recipe:
        return []
    reference = candidate_of(wildcards)._replace(recipe=recipe)
    paths = evidence(reference._asdict(), [])["paths"]
    return [str(paths[name]) for name in (*kept(TASKS[wildcards.data]), "safety")]


def pool_slice(wildcards):
    return sliced(PLAN.pool, wildcards.data)


def pool_inputs(wildcards):
    """List the assessments of all seeds on a data set."""
    mine = [c for c in PLAN.candidates if c.data == wildcards.data]
    paths = [evidence(c._asdict(), [])["paths"] for c in mine]
    files = (*kept(TASKS[wildcards.data]), "safety")
    return [str(p[name]) for p in paths for name in files]


def pooled_files():
    """List the pooled assessments, one per data set, if the sweep has several seeds."""
    several = len(PLAN.sweep.seed) > 1
    return expand(
        "results/report/{sweep}/pooled/{data}.json",
        sweep=PLAN.name if several else [],
        data=PLAN.sweep.data,
    )


def scaling_slice(wildcards):
    return sliced(PLAN.scaling, wildcards.model)


def scaling_profile_slice(wildcards):
    return sliced(PLAN.scaling_profile, wildcards.model, wildcards.device)


def scaled_files():
    """List what is known of the sweep's networks at each of its sizes."""
    pairs = scaled(PLAN.scaled, PLAN.sweep.sizes, PLAN.sweep.device[0])
    return [str(path) for pair in pairs for path in pair]


def scaling_outputs():
    """Return what the report of a sweep with sizes writes besides."""
    if not PLAN.scaled:
        return {}
    figure = report(
        "results/report/{sweep}/figures/scaling.svg",
        caption="../report/scaling.rst",
        category="Figures",
        labels={"sweep": "{sweep}", "what": "latency against input size"},
    )
    return {"scaling": figure, "scaling_table": "results/report/{sweep}/scaling.csv"}


def volumes_outputs():
    """Return what the report of a sweep with volumes writes besides."""
    if not any(
        sliced(PLAN.prepare, data)["data"]["volume"] for data in PLAN.sweep.data
    ):
        return {}
    figure = report(
        "results/report/{sweep}/figures/volumes.svg",
        caption="../report/volumes.rst",
        category="Figures",
        labels={"sweep": "{sweep}", "what": "whole volumes"},
    )
    return {"volumes": figure}


def report_inputs(wildcards):
    """List what the report reads, for every candidate of the sweep."""
    files = []
    for c in PLAN.candidates:
        paths = dict(evidence(c._asdict(), PLAN.sweep.device)["paths"])
        shown = ("cases", "predictions") if TASKS[c.data] == "segmentation" else ()
        for name in {*kept("multiclass"), *kept("segmentation")} - {*shown}:
            del paths[name]  # read by the siblings' assess only
        if shown:
            files.append(paths["card"].with_name("images.npy"))
        files += [*paths.pop("profile").values(), *paths.values()]
    return [
        *dict.fromkeys(map(str, files)),
        *scaled_files(),
        *interleaved_files(),
        *pooled_files(),
    ]


def report_slice(wildcards):
    return {
        "name": PLAN.name,
        **PLAN.sweep.model_dump(),
        "candidates": [c._asdict() for c in PLAN.candidates],
        "scaled": PLAN.scaled,
    }


def conclude(success):
    """Print one row per finished candidate, and where to look next."""
    said = SESSION.finish()
    wall = time.time() - SESSION.started
    done = [evidence(c._asdict(), PLAN.sweep.device) for c in PLAN.candidates]
    try:
        turns = Path(f"results/report/{PLAN.name}/interleaved")
        rows = table(done, [turns / f"{device}.json" for device in PLAN.sweep.device])
    except UserError as error:
        rows = str(error)
    page = Path(f"results/report/{PLAN.name}/index.html")
    minutes, seconds = divmod(round(wall), 60)
    said = [
        f"\n{rows}",
        *([f"Report: {page.resolve()}"] if success and page.is_file() else []),
        *said,
        "MLflow: mlflow ui   (in this folder; with MLFLOW_TRACKING_URI set: that server's page)",
        f"Sweep '{PLAN.name}': {'done' if success else 'stopped'} after {minutes} min {seconds} s",
    ]
    print("\n".join(said), file=sys.stderr)
    write_json(
        STATE / "last_run.json",
        {
            "sweep": PLAN.name,
            "success": success,
            "ended": SESSION.started + wall,
            "wall_s": wall,
        },
    )
