"""How one entry becomes MLflow runs: a row per candidate, a child run per stage."""

from __future__ import annotations

import csv
import logging
import os
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Run
from mlflow.tracking import MlflowClient

from edgeward.core.io import write_json
from edgeward.tracking import registry
from edgeward.tracking.entry import CANDIDATE_STAGES, StageEntry
from edgeward.tracking.live import curves, read_points
from edgeward.tracking.store import (
    datasets_of,
    flatten,
    metrics_of,
    runs_with,
    without_credentials,
    write,
)

STEP_COLUMNS = ("epoch", "step")
logger = logging.getLogger(__name__)


def title(stage: str, identity: dict[str, Any]) -> str:
    """Return the name of a stage's run."""
    if stage == "prepare":
        return f"prepare {identity['data']}"
    if stage == "train":
        return f"train {identity['model']} s{identity['seed']}"
    if stage == "report":
        return f"report {identity['sweep']}"
    return f"{stage} {identity['device']}" if stage == "profile" else stage


def _sequence(run: Run) -> int:
    return int(run.data.tags.get("edgeward.sequence", 0))


def _identity(entry: StageEntry) -> dict[str, Any]:
    names = ("data", "model", "seed", "recipe", "device", "sweep")
    return {name: getattr(entry, name) for name in names}


class Delivery:
    """Writes entries and curves to one experiment; every step may be repeated without harm."""

    def __init__(self, client: MlflowClient, experiment_id: str, uri: str, outbox: Path) -> None:
        self.client = client
        self.experiment_id = experiment_id
        self.uri = uri
        self.outbox = outbox
        self._shared: dict[str, str] = {}  # key of a prepare or train stage -> its run
        self._curves: dict[str, str] = {}  # curve id -> its run
        self._offsets: dict[str, int] = {}  # curve id -> bytes that have been delivered

    def _runs(self, key: str) -> list[Run]:
        return runs_with(self.client, self.experiment_id, "edgeward.key", key)

    def _create(self, name: str, started_at: float, tags: dict[str, Any]) -> str:
        texts = {k: str(v) for k, v in tags.items() if v is not None}
        run = self.client.create_run(
            self.experiment_id, start_time=int(started_at * 1000), tags=texts, run_name=name
        )
        run_id: str = run.info.run_id
        return run_id

    # ---------------------------------------------------------------- stages

    def stage(self, entry: StageEntry) -> None:
        """Deliver one entry. Its run replaces those of earlier runs of the same stage."""
        runs = self._runs(entry.key)
        newer = [
            r for r in runs if _sequence(r) > entry.sequence and "edgeward.entry_id" in r.data.tags
        ]
        if newer:
            logger.warning(
                "%s: a newer run is already in the store; this one is dropped", entry.key
            )
            return
        parent = self._candidate_run(entry)
        run_id = self._stage_run(entry, runs, parent)
        client = self.client
        last = self._finish_curve(entry, run_id)
        missing = [p for p in entry.artifacts if not os.access(p, os.R_OK)]
        tags = {
            **entry.tags,
            **self._tags(entry.stage, entry.key, _identity(entry), parent),
            "edgeward.entry_id": entry.entry_id,
            "edgeward.sequence": entry.sequence,
            "edgeward.missing_artifacts": ", ".join(p.name for p in missing) or None,
            "edgeward.not_finite": ", ".join(
                sorted(k for k, v in entry.metrics.items() if v is None)
            )
            or None,
            **{f"edgeward.{k}": v for k, v in entry.facts.get("tags", {}).items()},
        }
        metrics = metrics_of(entry.metrics, entry.finished_at, last)
        write(client, run_id, metrics, flatten(entry.config), tags)
        if entry.datasets:
            client.log_inputs(run_id, datasets_of(entry.datasets))
        self._artifacts(entry, run_id, [p for p in entry.artifacts if p not in missing])
        if parent is not None:
            self._row(entry, parent, run_id)
        else:
            self._shared[entry.key] = run_id
        client.set_terminated(run_id, entry.status, int(entry.finished_at * 1000))
        for run in runs:
            if run.info.run_id != run_id and _sequence(run) <= entry.sequence:
                client.delete_run(run.info.run_id)
        if entry.folder.is_dir():
            receipt = {
                "tracking_uri": without_credentials(self.uri),
                "experiment_id": self.experiment_id,
                "run_id": run_id,
                "parent_run_id": parent,
            }
            write_json(entry.receipt, receipt)

    def _tags(
        self, stage: str, key: str, identity: dict[str, Any], parent: str | None
    ) -> dict[str, Any]:
        return {
            "edgeward.kind": "stage",
            "edgeward.stage": stage,
            "edgeward.key": key,
            **{f"edgeward.{name}": value for name, value in identity.items()},
            "mlflow.parentRunId": parent,
        }

    def _stage_run(self, entry: StageEntry, runs: list[Run], parent: str | None) -> str:
        """Return the run that this entry has, if an earlier delivery was cut short; else a new one."""
        for run in runs:
            tags = run.data.tags
            if tags.get("edgeward.entry_id") == entry.entry_id:
                return str(run.info.run_id)
            unclaimed = "edgeward.entry_id" not in tags
            if unclaimed and entry.curve and tags.get("edgeward.curve") == entry.curve:
                return str(run.info.run_id)
        tags = {
            **self._tags(entry.stage, entry.key, _identity(entry), parent),
            "edgeward.entry_id": entry.entry_id,
            "edgeward.sequence": entry.sequence,
        }
        return self._create(title(entry.stage, _identity(entry)), entry.started_at, tags)

    def _artifacts(self, entry: StageEntry, run_id: str, paths: list[Path]) -> None:
        for path in paths:
            inside = path.parent.relative_to(entry.folder) if entry.folder in path.parents else None
            place = inside.as_posix() if inside and inside.parts else None
            if path.is_dir():
                self.client.log_artifacts(
                    run_id, str(path), f"{place}/{path.name}" if place else path.name
                )
            elif entry.stage == "export" and path.suffix == ".onnx":
                digest = registry.log_onnx(self.client, run_id, path)
                write(self.client, run_id, tags={"edgeward.onnx_sha256": digest})
            else:
                self.client.log_artifact(run_id, str(path), place)

    # ------------------------------------------------------------ candidates

    def _candidate_run(self, entry: StageEntry) -> str | None:
        """Return the run that is the candidate's row, made if this is its first stage."""
        if entry.stage not in CANDIDATE_STAGES or entry.candidate is None:
            return None
        runs = self._runs(entry.candidate)
        for surplus in runs[1:]:  # a request whose answer was lost
            self.client.delete_run(surplus.info.run_id)
        if runs:
            return str(runs[0].info.run_id)
        tags = {
            "edgeward.kind": "candidate",
            "edgeward.key": entry.candidate,
            **{
                f"edgeward.{k}": v
                for k, v in _identity(entry).items()
                if k not in ("device", "sweep")
            },
        }
        name = f"{entry.model} {entry.recipe} s{entry.seed}"
        return self._create(name, entry.started_at, tags)

    def _row(self, entry: StageEntry, parent: str, run_id: str) -> None:
        """Write what the stage adds to the candidate's row, and let the registry follow it."""
        shared = {
            "edgeward.prepare_run": self._shared_run(f"{entry.data}/prepare"),
            "edgeward.train_run": self._shared_run(
                f"{entry.data}/{entry.model}/s{entry.seed}/train"
            ),
        }
        tags = {f"edgeward.{k}": v for k, v in entry.facts.get("tags", {}).items()}
        row = metrics_of(entry.facts.get("row", {}), entry.finished_at)
        write(self.client, parent, row, tags={**shared, **tags})
        if entry.datasets and entry.stage == "assess":
            self.client.log_inputs(parent, datasets_of(entry.datasets))
        self.client.set_terminated(parent, "FINISHED", int(entry.finished_at * 1000))
        if entry.stage in ("assess", "profile"):
            values = self.client.get_run(parent).data.metrics
            if entry.stage == "assess":
                registry.apply_verdict(self.client, self.experiment_id, entry, run_id, values)
            else:
                registry.refresh(self.client, entry, values)

    def _shared_run(self, key: str) -> str | None:
        if key not in self._shared:
            runs = [r for r in self._runs(key) if "edgeward.entry_id" in r.data.tags]
            if not runs:
                return None
            self._shared[key] = str(max(runs, key=_sequence).info.run_id)
        return self._shared[key]

    # ---------------------------------------------------------------- curves

    def curve(self, header: dict[str, Any]) -> None:
        """Deliver the points that a live curve has gained."""
        path, curve = header["path"], header["curve"]
        if path.stat().st_size == self._offsets.get(curve):
            return
        points, offset = read_points(path, self._offsets.get(curve, 0))
        if points:
            run_id = self._curve_run(header)
            if run_id is None:
                path.unlink(missing_ok=True)
                return
            metrics: list[Metric] = []
            for point in points:
                metrics += metrics_of(point["metrics"], point["time"], point["step"])
            write(self.client, run_id, metrics)
        self._offsets[curve] = offset

    def _curve_run(self, header: dict[str, Any]) -> str | None:
        """Return the run of a live curve; None if the stage has finished since."""
        curve, key = header["curve"], header["key"]
        if curve in self._curves:
            return self._curves[curve]
        for run in self._runs(key):
            finished = "edgeward.entry_id" in run.data.tags
            if finished and _sequence(run) > header["sequence"]:
                return None
            if run.data.tags.get("edgeward.curve") == curve:
                self.client.update_run(run.info.run_id, status="RUNNING")
                self._curves[curve] = run.info.run_id
                return self._curves[curve]
        identity = header["identity"]
        tags = {
            **self._tags(identity.pop("stage"), key, identity, None),
            "edgeward.curve": curve,
            "edgeward.sequence": header["sequence"],
        }
        name = title(tags["edgeward.stage"], identity)
        self._curves[curve] = self._create(name, header["started_at"], tags)
        return self._curves[curve]

    def _finish_curve(self, entry: StageEntry, run_id: str) -> int:
        """Write the rest of the entry's curve, and steps that only ``history.csv`` has; return the last."""
        known: set[int] = set()
        metrics: list[Metric] = []
        for header in curves(self.outbox):
            if entry.curve and header["curve"] == entry.curve:
                for point in read_points(header["path"], 0)[0]:
                    known.add(point["step"])
                    metrics += metrics_of(point["metrics"], point["time"], point["step"])
        history = entry.folder / "history.csv"
        if entry.stage == "train" and history in entry.artifacts and history.is_file():
            for step, values in _history(history):
                if step not in known:
                    known.add(step)
                    metrics += metrics_of(values, entry.finished_at, step)
        write(self.client, run_id, metrics)
        return max(known, default=0)

    def forget_curves(self, entry: StageEntry) -> None:
        """Remove the curves that ended with a delivered entry."""
        for header in curves(self.outbox):
            if header["key"] == entry.key and header["sequence"] < entry.sequence:
                header["path"].unlink(missing_ok=True)

    def pause_curves(self) -> None:
        """Mark the runs of unfinished curves as killed; they run again when their stage does."""
        for header in curves(self.outbox):
            if header["curve"] in self._curves:
                self.client.set_terminated(self._curves[header["curve"]], "KILLED")


def _history(path: Path) -> list[tuple[int, dict[str, float]]]:
    """Read the numbers of ``history.csv``: (step, values) per row; empty cells are left out."""
    with path.open(newline="") as handle:
        reader = csv.DictReader(handle)
        column = next((c for c in STEP_COLUMNS if c in (reader.fieldnames or [])), None)
        if column is None:
            logger.warning("%s has no column %s: no curve", path, " or ".join(STEP_COLUMNS))
            return []
        rows = []
        for row in reader:
            values = {}
            for name, text in row.items():
                try:
                    values[name] = float(text)
                except (TypeError, ValueError):
                    continue
            step = values.pop(column)
            rows.append((int(step), values))
    return rows
