"""What the rules name: functions of a job's wildcards, and what begins and ends a run."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import psutil

from edgeward.compression.steps import step_classes
from edgeward.core import plugins
from edgeward.core.errors import UserError
from edgeward.core.io import read_json, write_json
from edgeward.data.config import DataConfig
from edgeward.models.config import WEIGHTS_ROOT, FileWeights, ModelConfig
from edgeward.pipeline.closure import closures, content
from edgeward.pipeline.compose import AXES, names, roots, stated
from edgeward.pipeline.environment import export_environment
from edgeward.pipeline.home import LIBRARY, PROJECT
from edgeward.pipeline.paths import (
    CLOSURES,
    DELIVERY_LOG,
    LAST_RUN,
    OUTBOX,
    WORK,
    Decide,
    Fold,
    Interleave,
    Pool,
    Port,
    Prepare,
    Report,
    ResultPaths,
    Scaling,
    ScalingProfile,
    Train,
)
from edgeward.pipeline.plan import Candidate, Plan, check_settings
from edgeward.pipeline.running import enter
from edgeward.pipeline.undone import Undone
from edgeward.pipeline.work import drop, prune
from edgeward.pipeline.worker import Workers
from edgeward.records.failure import Failure, Missing
from edgeward.runtimes.base import REFERENCE, runtime
from edgeward.tasks.base import task
from edgeward.tracking.address import default_uri, without_credentials
from edgeward.tracking.process import DeliveryProcess, deliver_command
from edgeward.tracking.view import address

Slice = dict[str, Any]
ENDING = (signal.SIGTERM, signal.SIGINT)
ENDED_PATIENCE_S = 10.0  # for the deliverer, of a run that was told to end
TASK = DataConfig.model_fields["task"].default
# Steps of recipes that time operators on a device.
PLACING = {
    get_args(c.model_fields["step"].annotation)[0]
    for c in step_classes()
    if "device" in c.model_fields
}


def _candidate(wildcards: Any) -> Candidate:
    w = wildcards
    return Candidate(w.data, w.model, int(w.seed), w.recipe)


@dataclass(frozen=True)
class Prepared:
    """Which files a prepared data set has besides those that all have, whether it is dealt anew for every seed, and whether the
    page shows cases of it."""

    masks: bool
    volumes: bool
    folds: bool
    shown: bool


class Pipeline:
    """The chosen sweep, as the rules see it.

    Parameters
    ----------
    settings : what ``--config`` says.

    Raises
    ------
    UserError
        If a setting or the sweep is wrong.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        check_settings(settings)
        sweep, overrides = str(settings.get("sweep", "default")), settings.get("overrides", ())
        self.plan = Plan.load(roots(), sweep, tuple(overrides))
        export_environment(settings, self.plan.sweep.device[0])
        self._check_weights()
        scripts = (PROJECT / "workflow" / "scripts").glob("*.py")
        watched = closures(LIBRARY, scripts, CLOSURES)
        self._code = content(LIBRARY, watched)
        self._delivery = DeliveryProcess(OUTBOX, DELIVERY_LOG)
        self._workers = Workers()
        self._ended, self._over = False, threading.Event()
        self._left = False
        self._ignored: set[tuple[str, str]] = set()

    # -- What wildcards may be --

    @property
    def wildcards(self) -> dict[str, str]:
        """The pattern of each wildcard: the names that there are."""
        groups = {a: "|".join(names(self.plan.roots, group)) for a, group in AXES.items()}
        own = (
            n
            for n in plugins.names("edgeward.runtimes")
            if runtime(n, "").file_of == n != REFERENCE
        )
        groups["runtime"] = "|".join(own) or "none"
        numbers = dict.fromkeys(("seed", "size", "fold"), r"\d+")
        return {**groups, **numbers, "sweep": self.plan.name}

    def data(self, *, masks: bool, volumes: bool) -> str:
        """Return the pattern of the data sets that have just these files besides those that all have."""
        these = masks, volumes
        return "|".join(d for d, has in self._prepared.items() if (has.masks, has.volumes) == these)

    @property
    def folded(self) -> str:
        """The pattern of the data sets that are cross-validated."""
        return "|".join(d for d, has in self._prepared.items() if has.folds) or "none"

    def recipes(self, *, finished: bool, placed: bool | None = None) -> str:
        """Return the pattern of the recipes that are finished files, or of those that are steps: of which one times operators on a
        device (`placed`), of which none does, or of all."""
        found = [
            recipe
            for recipe in names(self.plan.roots, "compress")
            if self._finished(recipe) == finished and placed in (None, self._placed(recipe))
        ]
        return "|".join(found) or "none"

    def _placed(self, recipe: str) -> bool:
        plan = self.plan
        if recipe in plan.sweep.recipe:
            return plan.placed_on(plan.candidates[0]._replace(recipe=recipe)) is not None
        steps = self._stated("compress", recipe).get("steps")
        names_one = (isinstance(step, dict) and step.get("step") in PLACING for step in steps or ())
        return any(names_one)

    def _finished(self, recipe: str) -> bool:
        plan = self.plan
        if recipe not in plan.sweep.recipe:
            return self._stated("compress", recipe).get("file") is not None
        return plan.finished(plan.candidates[0]._replace(recipe=recipe)) is not None

    @cached_property
    def _prepared(self) -> dict[str, Prepared]:
        found: dict[str, Prepared] = {}
        for name in names(self.plan.roots, "data"):
            try:
                found[name] = self._holds(name)
            except (
                UserError,
                AttributeError,
                TypeError,
            ) as error:  # the last two: no sections where there should be
                if name in self.plan.sweep.data:
                    raise
                reason = (
                    error
                    if isinstance(error, UserError)
                    else f"config/data/{name}.yaml: it is no data set"
                )
                self._ignore("data", name, str(reason))
        return found

    def _stated(self, group: str, name: str) -> Slice:
        """Return what a file states that this sweep does not use; nothing if it is broken."""
        try:
            return stated(self.plan.roots, group, name)
        except UserError as error:
            self._ignore(group, name, str(error))
            return {}

    def _ignore(self, group: str, name: str, reason: str) -> None:
        """Say once that a broken file is left out."""
        if (group, name) not in self._ignored:
            self._ignored.add((group, name))
            print(
                f"Ignored, as sweep '{self.plan.name}' does not use it: {reason}", file=sys.stderr
            )

    def _holds(self, data: str) -> Prepared:
        mine = data in self.plan.sweep.data
        # A job may be asked for other data, too; composing them all would take half a second.
        content = self.plan.prepare(data)["data"] if mine else stated(self.plan.roots, "data", data)
        of = task(content.get("task", TASK), f"config/data/{data}.yaml")
        shown = plugins.has_part("edgeward.tasks", of.name, "report")
        folds = content.get("split", {}).get("kind") == "folds"
        deep = content.get("volume") is not None and of.dense  # else of one shape, as images are
        return Prepared(of.dense, deep, folds, shown)

    # -- What jobs read --

    def code(self, stage: str) -> str:
        """Return the digest of the library files behind a stage: a rule that has it as a parameter is run again when it changes."""
        return self._code[stage]

    def _dealt(self, wildcards: Any) -> Prepare | Fold:
        """Return where the splits of a job lie: those of the fold that its seed tests, if the data have folds."""
        data, seed = wildcards.data, getattr(wildcards, "seed", None)
        if seed is None or not self._prepared[data].folds:
            return Prepare(data)
        return Fold(data, seed)

    def card(self, wildcards: Any) -> Path:
        """Return the card of what a job reads; the folder around it is the prepared data set."""
        return self._dealt(wildcards).card

    def prepared(self, wildcards: Any) -> list[Path]:
        """List all that `edgeward.data.store.open_prepared` reads, but for the card."""
        return self._opened(wildcards.data, self._dealt(wildcards))

    def _opened(self, data: str, dealt: Prepare | Fold | None = None) -> list[Path]:
        at, has = Prepare(data), self._prepared[data]
        dealt = dealt or at
        files = [at.images, at.labels, dealt.split, dealt.calibration]
        return files + [at.masks] * has.masks + [at.volumes] * has.volumes

    def folds(self, wildcards: Any) -> list[Path]:
        """List the cards of the folds of a data set that the sweep tests, in the order of its seeds; none if it has none."""
        data = wildcards.data
        return [Fold(data, s).card for s in self.plan.sweep.seed if self._prepared[data].folds]

    def dealt(self, wildcards: Any) -> list[Path]:
        """List the other files of these folds."""
        found = [Fold(wildcards.data, s) for s in self.plan.sweep.seed]
        files = [path for fold in found for path in (fold.split, fold.calibration)]
        return files if self._prepared[wildcards.data].folds else []

    def weights(self, wildcards: Any) -> list[Path]:
        """Return the file of weights that a model starts from; nothing if it has none, or timm fetches them."""
        w = wildcards
        weights = self._weights(w.data, w.model)
        return [] if weights is None else [weights.place]

    def _weights(self, data: str, model: str) -> FileWeights | None:
        content = self.plan.train(data, model, self.plan.sweep.seed[0])["model"]
        weights = ModelConfig.model_validate(content).weights
        return weights if isinstance(weights, FileWeights) else None

    def finished_file(self, wildcards: Any) -> Path:
        """Return the finished file that is taken as a recipe."""
        file = self.plan.finished(_candidate(wildcards))
        assert file is not None  # as the rule's pattern has it
        return file

    def _check_weights(self) -> None:
        """Refuse files of weights and finished files that are not there, before anything is computed."""
        sweep = self.plan.sweep
        for c in self.plan.candidates:
            file = self.plan.finished(c)
            if file is not None and not file.is_file():
                raise UserError(
                    f"recipe '{c.recipe}' of model '{c.model}' is the file {file}, which is not there (config/compress/{c.recipe}.yaml, "
                    f"config/model/{c.model}.yaml: key 'file'). Files lie below the weights root ({WEIGHTS_ROOT}, or --config weights_root=...)."
                )
        for model in (*sweep.model, *self.plan.teachers):
            weights = self._weights(sweep.data[0], model)
            if weights is not None and not weights.place.is_file():
                raise UserError(
                    f"config/model/{model}.yaml: key 'model.weights.path' names {weights.place}, which is not there. {weights.whence}Files of "
                    f"weights lie below the weights root ({WEIGHTS_ROOT}, or --config weights_root=...)."
                )

    def teachers(self, wildcards: Any) -> list[Path]:
        """List the checkpoints of the models that a recipe distils from."""
        c = _candidate(wildcards)
        named = self.plan.taught_by(c.data, c.model, c.recipe)
        return [Train(c.data, model, c.seed).checkpoint for model in named]

    def reference(self, wildcards: Any) -> list[Path]:
        """Return what `assess` found of the reference candidate; nothing if this is the reference."""
        c = _candidate(wildcards)
        recipe = self.plan.reference(c.data, c.model)
        return [] if c.recipe == recipe else self._assessed(c._replace(recipe=recipe))

    def assessed(self, wildcards: Any) -> list[Path]:
        """List what `assess` found of all candidates on a data set."""
        mine = (c for c in self.plan.candidates if c.data == wildcards.data)
        return [path for c in mine for path in self._assessed(c)]

    def decided_reference(self, wildcards: Any) -> list[Path]:
        """Return what the same device decided of the reference candidate; nothing if this is the reference."""
        c = _candidate(wildcards)
        recipe = self.plan.reference(c.data, c.model)
        if c.recipe == recipe:
            return []
        at = Decide(*c._replace(recipe=recipe), wildcards.device)
        return [at.safety, at.cases]

    @staticmethod
    def _assessed(candidate: Candidate) -> list[Path]:
        at = ResultPaths(*candidate).assess
        return [at.safety, at.cases]

    def models_in_turns(self, wildcards: Any) -> list[Path]:
        """List the files that are timed in turns on a device, or what says that there are none."""
        members = dict.fromkeys(c for group in self.plan.interleaved for c in group)
        return [path for c in members for path in self._file(c, wildcards.device)]

    def on_device(self, wildcards: Any) -> list[Path]:
        """Return the file that a device takes; where it is one of its own, what says so, and the folder that holds it."""
        return self._file(_candidate(wildcards), wildcards.device)

    def _file(self, candidate: Candidate, device: str) -> list[Path]:
        taker = self.plan.taker(device)
        if taker == REFERENCE:
            return [ResultPaths(*candidate).export.onnx]
        port = Port(*candidate, taker)
        return [port.record, port.files]

    @property
    def candidates(self) -> list[Path]:
        """What the report reads of every candidate of the sweep."""
        files: list[Path] = []
        for candidate, at in zip(self.plan.candidates, self._results, strict=True):
            has = self._prepared[at.data]
            absent: set[str] = set()  # stages of which a finished file has nothing
            if self.plan.finished(candidate) is not None:
                absent.add("compress")
            if self.plan.trained(at.data, at.model):
                files.append(at.train.history)
            else:
                absent.add("train")
            files += [path for stage, path in at.configs.items() if stage not in absent]
            files += [at.prepare.card, at.compress.record, at.export.onnx]
            files += [at.export.parity, at.assess.safety, at.assess.verdict, *at.profiles.values()]
            files += [self._file(candidate, device)[0] for device in at.devices]
            files += [path for on in at.decided.values() for path in (on.safety, on.verdict)]
            if has.shown:
                files += [at.assess.cases, *self._opened(at.data)]
        return list(dict.fromkeys(files))

    @property
    def _results(self) -> list[ResultPaths]:
        sweep = self.plan.sweep
        devices = tuple(sweep.device), tuple(sweep.decide_on)
        return [ResultPaths(*c, *devices) for c in self.plan.candidates]

    @property
    def builds(self) -> list[Path]:
        """What is known of the sweep's untrained networks at each of its sizes."""
        return [Scaling(*of).build for of in self.plan.untrained]

    @property
    def sizes(self) -> list[Path]:
        """The profiles of the untrained networks, in the order of `builds`."""
        device = self.plan.sweep.device[0]
        return [ScalingProfile(*of, device).record for of in self.plan.untrained]

    @property
    def turns(self) -> list[Path]:
        """The comparisons in turns, one per device, if the sweep asks for any."""
        devices = self.plan.sweep.device if self.plan.interleaved else []
        return [Interleave(self.plan.name, device).record for device in devices]

    @property
    def pooled(self) -> list[Path]:
        """The pooled assessments, one per data set, if the sweep has several seeds."""
        several = len(self.plan.sweep.seed) > 1
        return [Pool(self.plan.name, d).record for d in self.plan.sweep.data if several]

    # -- What jobs write, and are told --

    @property
    def page(self) -> Path:
        """The page of the sweep."""
        return Report(self.plan.name).page

    @property
    def report(self) -> list[Path]:
        """What tells that the page of the sweep is whole: one that lacks what failed is there too, but without metrics."""
        return [self.page, Report(self.plan.name).metrics]

    @property
    def size_tables(self) -> list[Path]:
        """The table of input sizes, if the sweep has any."""
        return [Report.scaling] if self.plan.untrained else []

    @property
    def sync_command(self) -> list[str]:
        """The command that delivers what is left in the outbox."""
        return deliver_command(OUTBOX, "--wait")

    def prepare_slice(self, wildcards: Any) -> Slice:
        return self.plan.prepare(wildcards.data)

    def train_slice(self, wildcards: Any) -> Slice:
        return self.plan.train(wildcards.data, wildcards.model, int(wildcards.seed))

    def compress_slice(self, wildcards: Any) -> Slice:
        return self.plan.stage("compress", _candidate(wildcards))

    def export_slice(self, wildcards: Any) -> Slice:
        return self.plan.stage("export", _candidate(wildcards))

    def port_slice(self, wildcards: Any) -> Slice:
        return self.plan.port(_candidate(wildcards), wildcards.runtime)

    def adopt_slice(self, wildcards: Any) -> Slice:
        return self.plan.adopt(_candidate(wildcards))

    def profile_slice(self, wildcards: Any) -> Slice:
        return self.plan.stage("profile", _candidate(wildcards), wildcards.device)

    def assess_slice(self, wildcards: Any) -> Slice:
        return self.plan.stage("assess", _candidate(wildcards))

    def decide_slice(self, wildcards: Any) -> Slice:
        return self.plan.decide(_candidate(wildcards), wildcards.device)

    def ceilings_slice(self, wildcards: Any) -> Slice:
        return self.plan.ceilings(wildcards.device)

    def interleave_slice(self, wildcards: Any) -> Slice:
        return self.plan.interleave(wildcards.device)

    def pool_slice(self, wildcards: Any) -> Slice:
        return self.plan.pool(wildcards.data)

    def scaling_slice(self, wildcards: Any) -> Slice:
        return self.plan.scaling(wildcards.model)

    def scaling_profile_slice(self, wildcards: Any) -> Slice:
        return self.plan.scaling_profile(wildcards.model, wildcards.device)

    def report_slice(self, _: Any) -> Slice:
        return self.plan.report()

    # -- The run as a whole --

    def enter(self) -> None:
        """Hold the working directory as long as this process lives; say who else does."""
        said = enter(self.plan.name)
        if said:
            print(said, file=sys.stderr)
        signal.signal(signal.SIGINT, self._leave)

    def start(self, workflow: Any) -> None:
        """Begin to deliver tracking entries, and have a process ready that has imported what jobs need."""
        self._delivery.start()
        self._workers.start()
        dag = workflow.dag
        jobs = {dag.jobid(job): job for job in dag.jobs}

        def heard(record: logging.LogRecord) -> bool:
            """Drop the state of a job that is counted; leave out of the word on a failed one its dozens of files."""
            event = getattr(getattr(record, "event", None), "value", "")
            if event == "job_finished":
                counted = {Path(str(output)) for output in jobs[vars(record)["job_id"]].output}
                drop(WORK, counted)
            elif event == "job_error":  # the job itself has said why
                vars(record).update(input=[], output=[])
            return True

        logging.getLogger("snakemake.logging").addFilter(heard)
        self._prune(workflow)
        for number in ENDING:
            signal.signal(number, self._end)
        if self._left:
            self._end(signal.SIGINT, None)

    def _leave(self, *_: Any) -> None:
        """Interrupt planning; note it, since an interruption that falls into a callback of C is lost, and then `start` ends the run."""
        self._left = True
        raise KeyboardInterrupt

    def _prune(self, workflow: Any) -> None:
        """Remove the states of jobs that are done."""
        dag = workflow.dag
        done = {
            Path(str(output)): not dag.needrun(job) or dag.finished(job)
            for job in dag.jobs
            for output in job.output
        }
        prune(WORK, done.get)

    def _end(self, number: int, _: Any) -> None:
        """End all jobs, then the run (SIGTERM, SIGINT): Snakemake alone would wait until they are through."""
        if self._over.is_set():  # no job runs any more, and what is not delivered yet waits
            os._exit(128 + number)
        print(
            f"\n{signal.Signals(number).name}: the running jobs are ended; what they have reached is kept. Once more ends "
            "this process at once.",
            file=sys.stderr,
        )
        self._ended = True
        threading.Thread(target=self._end_jobs, daemon=True).start()
        for ending in ENDING:
            signal.signal(ending, signal.SIG_DFL)
        raise KeyboardInterrupt

    def _end_jobs(self) -> None:
        """End the running jobs, and those that Snakemake was just about to start."""
        told: set[psutil.Process] = set()
        while not self._over.wait(0.2):
            for job in psutil.Process().children():
                if job.pid not in (self._delivery.pid, self._workers.pid):
                    with contextlib.suppress(psutil.Error):
                        for process in {*job.children(recursive=True), job} - told:
                            process.terminate()
                            told.add(process)

    def _tracked(self) -> str:
        """Say where MLflow shows the candidates: of a store that is no server, once ``mlflow ui`` serves it."""
        uri = without_credentials(default_uri())
        served = "" if uri.startswith("http") else "mlflow ui   (in this folder), then "
        try:
            run = read_json(Report(self.plan.name).folder / "mlflow.json")
        except OSError:  # nothing was delivered (yet)
            return f"MLflow: {served or uri}".removesuffix(", then ")
        return f"MLflow: {served}{address(uri, run['experiment_id'])}"

    def finish(self, success: bool, workflow: Any) -> None:
        """Print one row per candidate, finished or failed, and where to look next.

        If something failed, the page and MLflow say so too: the rule `report` could not run without it.
        """
        from edgeward.reporting.summary import table  # 0.2 s that no start of a job shall take

        self._over.set()
        self._workers.stop()
        self._prune(workflow)
        undone = Undone(workflow)
        present, missing = undone.present(self._results), undone.missing(self._results)
        self._post(undone, missing)
        page = self.page if success else self._page_of_failures(undone, present, missing)
        said = self._delivery.finish(*([ENDED_PATIENCE_S] if self._ended else []))
        wall = time.time() - self._delivery.started
        turns, pooled = undone.done(self.turns), undone.done(self.pooled)
        try:
            rows = table(present, turns, pooled, missing, len(self._results))
        except UserError as error:
            rows = str(error)
        rows += "".join(f"! {sentence}\n" for sentence in undone.besides)
        if page is not None and page.is_file():
            said = [f"Report: {page.resolve()}", *said]
        minutes, seconds = divmod(round(wall), 60)
        name, ended = self.plan.name, "done" if success else "stopped"
        said = [
            f"\n{rows}",
            *said,
            self._tracked(),
            f"Sweep '{name}': {ended} after {minutes} min {seconds} s",
        ]
        print("\n".join(said), file=sys.stderr)
        ended_at = self._delivery.started + wall
        record = {"sweep": name, "success": success, "ended": ended_at, "wall_s": wall}
        write_json(LAST_RUN, record)

    def _page_of_failures(
        self, undone: Undone, present: list[ResultPaths], missing: list[Missing]
    ) -> Path | None:
        """Write the page of what there is and what failed, if a page was asked for; return where it is."""
        at = Report(self.plan.name)
        if not undone.failures:
            return None
        with contextlib.suppress(OSError):
            at.metrics.unlink(missing_ok=True)  # so that Snakemake does not take the sweep for done
        if at.page not in undone.by_output:
            return None
        from edgeward.reporting.stage import run

        scaled = [
            pair
            for pair in zip(self.builds, self.sizes, strict=True)
            if undone.done(pair) == [*pair]
        ]
        content = {k: v for k, v in self.plan.report().items() if k != "candidates"}
        try:
            run(
                content,
                present,
                out=at.folder,
                scaled=scaled,
                turns=undone.done(self.turns),
                pooled=undone.done(self.pooled),
                missing=missing,
                besides=undone.besides,
            )
        except (UserError, OSError) as error:
            print(f"The page cannot be written: {error}", file=sys.stderr)
            return None
        return at.page

    def _post(self, undone: Undone, missing: list[Missing]) -> None:
        """Tell MLflow what failed: the stages, and the candidates that have none of their own for it."""
        from edgeward.tracking.entry import STAGES, StageEntry
        from edgeward.tracking.outbox import post

        shared = [j for j in undone.failed if "recipe" not in j.of and j.stage in STAGES]
        told: list[tuple[str, dict[str, Any], Slice, Path, tuple[Failure, ...], str]]
        told = [(j.stage, j.of, j.config, j.folder, j.causes, j.causes[0].reason) for j in shared]
        for m in missing:
            of = {key: getattr(m, key) for key in ("data", "model", "seed", "recipe", "device")}
            stage = {"adopt": "export", "compress_for_device": "compress"}.get(m.stage, m.stage)
            told.append((stage, of, m.config, m.folder, m.causes, m.reason))
        for stage, of, config, folder, causes, reason in told:
            failed = folder / "failed"
            identity: dict[str, Any] = {
                k: int(v) if k in ("seed", "size") else v for k, v in of.items()
            }
            entry = StageEntry(
                stage=stage,
                **identity,
                config=config,
                folder=folder.resolve(),
                artifacts=[
                    path.resolve()
                    for cause in causes
                    for path in (failed / name for name in cause.kept)
                    if path.is_file()
                ],
                tags={"edgeward.failure": reason, "edgeward.log": ", ".join(c.log for c in causes)},
                status="FAILED",
            )
            try:
                post(OUTBOX, entry)
            except (OSError, UserError) as error:
                print(f"MLflow is not told of {entry.key}: {error}", file=sys.stderr)
