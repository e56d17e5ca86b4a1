"""How one entry becomes MLflow runs: a row per candidate, a child run per stage."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from mlflow.entities import Run

from edgeward.core.io import write_json
from edgeward.tracking import registry
from edgeward.tracking.address import without_credentials
from edgeward.tracking.curves import Curves
from edgeward.tracking.entry import StageEntry
from edgeward.tracking.experiment import ExperimentStore, delivered, sequence, stage_tags
from edgeward.tracking.store import datasets_of, flatten, metrics_of, write
from edgeward.tracking.tidy import supersede

logger = logging.getLogger(__name__)


def _row_tags(entry: StageEntry) -> dict[str, str]:
    return {f"edgeward.{name}": text for name, text in entry.row.tags.items()}


class Delivery:
    """Writes entries to one experiment; every step may be repeated without harm."""

    def __init__(self, store: ExperimentStore, uri: str, outbox: Path) -> None:
        self.store = store
        self.client = store.client
        self.uri = uri
        self.curves = Curves(store, outbox)
        self._shared: dict[str, str] = {}  # key of a prepare or train stage -> its run

    def stage(self, entry: StageEntry) -> None:
        """Deliver one entry. Its run replaces those of earlier runs of the same stage."""
        runs = self.store.runs(entry.key)
        if any(delivered(run) and sequence(run) > entry.sequence for run in runs):
            logger.warning("%s: the store has a newer run; this one is dropped", entry.key)
            return
        parent = self.store.candidate(entry, entry.started_at)
        run_id = self._stage_run(entry, runs, parent)
        self._contents(entry, run_id, parent)
        if parent is not None:
            self._row(entry, parent, run_id)
        else:
            self._shared[entry.key] = run_id
        self.client.set_terminated(run_id, entry.status, int(entry.finished_at * 1000))
        for run in runs:
            if run.info.run_id != run_id and sequence(run) <= entry.sequence:
                supersede(self.client, run.info.run_id)
        if entry.folder.is_dir():
            receipt = {
                "tracking_uri": without_credentials(self.uri),
                "experiment_id": self.store.experiment_id,
                "run_id": run_id,
                "parent_run_id": parent,
            }
            write_json(entry.receipt, receipt)

    def _stage_run(self, entry: StageEntry, runs: list[Run], parent: str | None) -> str:
        """Return the run that a delivery cut short, or a live curve, has left; else a new one."""
        for run in runs:
            if run.data.tags.get("edgeward.entry_id") == entry.entry_id:
                return str(run.info.run_id)
        for run in runs:
            curve = run.data.tags.get("edgeward.curve")
            if entry.curve and curve == entry.curve and not delivered(run):
                return str(run.info.run_id)
        tags = {
            **stage_tags(entry, parent),
            "edgeward.entry_id": entry.entry_id,
            "edgeward.sequence": entry.sequence,
        }
        return self.store.create(entry.title, entry.started_at, tags)

    def _contents(self, entry: StageEntry, run_id: str, parent: str | None) -> None:
        """Write tags, parameters, metrics, data sets and artifacts."""
        missing = [path for path in entry.artifacts if not os.access(path, os.R_OK)]
        empty = sorted(name for name, value in entry.metrics.items() if value is None)
        tags = {
            **entry.tags,
            **stage_tags(entry, parent),
            "edgeward.entry_id": entry.entry_id,
            "edgeward.sequence": entry.sequence,
            "edgeward.missing_artifacts": ", ".join(path.name for path in missing) or None,
            "edgeward.not_finite": ", ".join(empty) or None,
            **_row_tags(entry),
            "edgeward.row_problem": entry.row.problem,
        }
        last = self.curves.finish(entry, run_id)
        metrics = metrics_of(entry.metrics, entry.finished_at, last)
        write(self.client, run_id, metrics, flatten(entry.config), tags)
        if entry.datasets:
            self.client.log_inputs(run_id, datasets_of(entry.datasets))
        for path in entry.artifacts:
            if path not in missing and not self._artifact(entry, run_id, path):
                missing.append(path)
                names = ", ".join(gone.name for gone in missing)
                write(self.client, run_id, tags={"edgeward.missing_artifacts": names})

    def _artifact(self, entry: StageEntry, run_id: str, path: Path) -> bool:
        """Keep a file with the run; return whether it was still there: its stage may run again meanwhile."""
        try:
            self._copy(entry, run_id, path)
        except Exception:
            if path.exists():
                raise
            return False
        return True

    def _copy(self, entry: StageEntry, run_id: str, path: Path) -> None:
        inside = path.relative_to(entry.folder) if path.is_relative_to(entry.folder) else None
        place = inside.parent.as_posix() if inside and inside.parent.parts else None
        if path.is_dir():
            self.client.log_artifacts(run_id, str(path), inside.as_posix() if inside else path.name)
        elif entry.stage == "export" and path.suffix == ".onnx":
            digest = registry.log_onnx(self.client, run_id, path)
            write(self.client, run_id, tags={"edgeward.onnx_sha256": digest})
        else:
            self.client.log_artifact(run_id, str(path), place)

    def _row(self, entry: StageEntry, parent: str, run_id: str) -> None:
        """Write what the stage adds to the candidate's row, and let the registry follow it."""
        train = f"{entry.data}/{entry.model}/s{entry.seed}/train"
        tags = {
            "edgeward.prepare_run": self._shared_run(f"{entry.data}/prepare"),
            "edgeward.train_run": self._shared_run(train),
            **_row_tags(entry),
        }
        row = metrics_of(entry.row.metrics, entry.finished_at)
        failed = self._failure(entry, parent)
        write(self.client, parent, row, tags=tags | failed)
        if entry.datasets and entry.stage == "assess":
            self.client.log_inputs(parent, datasets_of(entry.datasets))
        status = "FAILED" if failed else "FINISHED"
        self.client.set_terminated(parent, status, int(entry.finished_at * 1000))
        if entry.stage == "assess":
            values = self.client.get_run(parent).data.metrics
            registry.apply_verdict(self.client, self.store.study, entry, run_id, parent, values)
        elif entry.stage == "profile":
            values = self.client.get_run(parent).data.metrics
            registry.refresh(self.client, self.store.study, entry, values)

    def _failure(self, entry: StageEntry, parent: str) -> dict[str, str]:
        """Return the tags of the failure that stands in a candidate's row after this entry; forget one that is mended."""
        stage = " ".join([entry.stage, *([entry.device] if entry.device else [])])
        if entry.status == "FAILED":
            reason = entry.tags.get("edgeward.failure", "")
            judged = {"edgeward.verdict": "failed", "edgeward.verdict_reasons": reason}
            tags = {"edgeward.failed_stage": stage, "edgeward.failure": reason}
            return tags | ({} if entry.device else judged)
        there = self.client.get_run(parent).data.tags
        standing: dict[str, str] = {
            name: text
            for name, text in there.items()
            if name in ("edgeward.failed_stage", "edgeward.failure")
        }
        if standing.get("edgeward.failed_stage") != stage:
            return standing
        gone = [
            *standing,
            *([] if entry.device else ["edgeward.verdict", "edgeward.verdict_reasons"]),
        ]
        for name in gone:
            if name in there:
                self.client.delete_tag(parent, name)
        return {}

    def _shared_run(self, key: str) -> str | None:
        if key not in self._shared:
            runs = [run for run in self.store.runs(key) if delivered(run)]
            if not runs:
                return None
            self._shared[key] = str(max(runs, key=sequence).info.run_id)
        return self._shared[key]
