"""Live curves on their way to MLflow. Writing a point twice changes nothing."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

from mlflow.entities import Metric

from edgeward.tracking.entry import StageEntry
from edgeward.tracking.experiment import ExperimentStore, delivered, sequence, stage_tags
from edgeward.tracking.live import Header, Point, curves, read_points
from edgeward.tracking.store import metrics_of, write

STEP_COLUMNS = ("epoch", "step")
logger = logging.getLogger(__name__)


class Curves:
    """The curves of one outbox."""

    def __init__(self, store: ExperimentStore, outbox: Path) -> None:
        self.store = store
        self.outbox = outbox
        self._runs: dict[str, str] = {}  # curve id -> its run
        self._offsets: dict[str, int] = {}  # curve id -> bytes that have been delivered

    def deliver(self, header: Header) -> None:
        """Write the points that a curve has gained; remove it if its stage has finished since."""
        path, curve = header.path, header.curve
        if path.stat().st_size == self._offsets.get(curve):
            return
        points, offset = read_points(path, self._offsets.get(curve, 0))
        if points:
            run_id = self._run(header)
            if run_id is None:
                path.unlink(missing_ok=True)
                return
            write(self.store.client, run_id, _metrics(points))
        self._offsets[curve] = offset

    def _run(self, header: Header) -> str | None:
        """Return the run of a curve, made if need be; None if a later entry has replaced it."""
        curve, client = header.curve, self.store.client
        if curve in self._runs:
            return self._runs[curve]
        runs = self.store.runs(header.key)
        if any(delivered(run) and sequence(run) > header.sequence for run in runs):
            return None
        own = [run.info.run_id for run in runs if run.data.tags.get("edgeward.curve") == curve]
        if own:
            client.update_run(own[0], status="RUNNING")
        else:
            parent = self.store.candidate(header.identity, header.started_at)
            tags = {
                **stage_tags(header.identity, parent),
                "edgeward.curve": curve,
                "edgeward.sequence": header.sequence,
            }
            own = [self.store.create(header.identity.title, header.started_at, tags)]
        self._runs[curve] = own[0]
        return own[0]

    def finish(self, entry: StageEntry, run_id: str) -> int:
        """Write all of an entry's curve to its run; return the last step (0 without a curve).

        Steps that only ``history.csv`` has, because nobody delivered or recorded them live, are
        taken from there.
        """
        known: set[int] = set()
        metrics: list[Metric] = []
        for header in curves(self.outbox):
            if entry.curve and header.curve == entry.curve:
                points = read_points(header.path, 0)[0]
                known |= {point.step for point in points}
                metrics += _metrics(points)
        history = entry.folder / "history.csv"
        if history in entry.artifacts and history.is_file():
            for step, values in read_history(history):
                if step not in known:
                    known.add(step)
                    metrics += metrics_of(values, entry.finished_at, step)
        write(self.store.client, run_id, metrics)
        return max(known, default=0)

    def forget(self, entry: StageEntry) -> None:
        """Remove the curves that ended with a delivered entry."""
        for header in curves(self.outbox):
            if header.key == entry.key and header.sequence < entry.sequence:
                header.path.unlink(missing_ok=True)

    def pause(self) -> None:
        """Mark the runs of unfinished curves as killed; they run again when their stage does."""
        for header in curves(self.outbox):
            if header.curve in self._runs:
                self.store.client.set_terminated(self._runs.pop(header.curve), "KILLED")


def _metrics(points: list[Point]) -> list[Metric]:
    return [m for p in points for m in metrics_of(p.metrics, p.time, p.step)]


def read_history(path: Path) -> list[tuple[int, dict[str, float]]]:
    """Read the numbers of ``history.csv``: (step, values) per row; other cells are left out."""
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
            if column in values:
                rows.append((int(values.pop(column)), values))
    return rows
