"""What the rules name: functions of a job's wildcards, and what begins and ends a run."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

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
    Decide,
    Fold,
    Interleave,
    Pool,
    Prepare,
    Report,
    ResultPaths,
    Scaling,
    ScalingProfile,
    Train,
)
from edgeward.pipeline.plan import Candidate, Plan, check_settings
from edgeward.pipeline.worker import Workers
from edgeward.tasks.base import task
from edgeward.tracking.address import default_uri, without_credentials
from edgeward.tracking.process import DeliveryProcess, deliver_command
from edgeward.tracking.view import address

Slice = dict[str, Any]
TASK = DataConfig.model_fields["task"].default


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
        sweep, overrides = settings.get("sweep", "default"), settings.get("overrides", ())
        self.plan = Plan.load(roots(), sweep, tuple(overrides))
        export_environment(settings, self.plan.sweep.device[0])
        self._check_weights()
        scripts = (PROJECT / "workflow" / "scripts").glob("*.py")
        watched = closures(LIBRARY, scripts, CLOSURES)
        self._code = content(LIBRARY, watched)
        self._delivery = DeliveryProcess(OUTBOX, DELIVERY_LOG)
        self._workers = Workers()

    # -- What wildcards may be --

    @property
    def wildcards(self) -> dict[str, str]:
        """The pattern of each wildcard: the names that there are."""
        groups = {a: "|".join(names(self.plan.roots, group)) for a, group in AXES.items()}
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

    def recipes(self, *, finished: bool) -> str:
        """Return the pattern of the recipes that are finished files, or of those that are steps."""
        found = [r for r in names(self.plan.roots, "compress") if self._finished(r) == finished]
        return "|".join(found) or "none"

    def _finished(self, recipe: str) -> bool:
        plan = self.plan
        if recipe not in plan.sweep.recipe:
            return stated(plan.roots, "compress", recipe).get("file") is not None
        return plan.finished(plan.candidates[0]._replace(recipe=recipe)) is not None

    @cached_property
    def _prepared(self) -> dict[str, Prepared]:
        return {name: self._holds(name) for name in names(self.plan.roots, "data")}

    def _holds(self, data: str) -> Prepared:
        mine = data in self.plan.sweep.data
        # A job may be asked for other data, too; composing them all would take half a second.
        content = self.plan.prepare(data)["data"] if mine else stated(self.plan.roots, "data", data)
        of = task(content.get("task", TASK), f"config/data/{data}.yaml")
        shown = plugins.has_part("edgeward.tasks", of.name, "report")
        folds = content.get("split", {}).get("kind") == "folds"
        return Prepared(of.dense, content.get("volume") is not None, folds, shown)

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

    @property
    def models_in_turns(self) -> list[Path]:
        """The files that are timed in turns."""
        members = dict.fromkeys(c for group in self.plan.interleaved for c in group)
        return [ResultPaths(*c).export.onnx for c in members]

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

    def start(self) -> None:
        """Begin to deliver tracking entries, and have a process ready that has imported what jobs need."""
        self._delivery.start()
        self._workers.start()

    def _tracked(self) -> str:
        """Say where MLflow shows the candidates: of a store that is no server, once ``mlflow ui`` serves it."""
        uri = without_credentials(default_uri())
        served = "" if uri.startswith("http") else "mlflow ui   (in this folder), then "
        try:
            run = read_json(Report(self.plan.name).folder / "mlflow.json")
        except OSError:  # nothing was delivered (yet)
            return f"MLflow: {served or uri}".removesuffix(", then ")
        return f"MLflow: {served}{address(uri, run['experiment_id'])}"

    def finish(self, success: bool) -> None:
        """Print one row per finished candidate, and where to look next."""
        from edgeward.reporting.summary import table  # 0.2 s that no start of a job shall take

        self._workers.stop()
        said = self._delivery.finish()
        wall = time.time() - self._delivery.started
        try:
            rows = table(self._results, self.turns, self.pooled)
        except UserError as error:
            rows = str(error)
        if success and self.page.is_file():
            said = [f"Report: {self.page.resolve()}", *said]
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
