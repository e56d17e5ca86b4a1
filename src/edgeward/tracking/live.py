"""Live curves: metrics of a stage that is still running, one file per curve."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edgeward.core.errors import UserError
from edgeward.core.io import digest
from edgeward.tracking.entry import Identity, StageEntry

logger = logging.getLogger(__name__)


@contextmanager
def sequenced(outbox: Path) -> Iterator[int]:
    """Yield the next sequence number, holding the outbox's posting lock.

    Nanoseconds since 1970 if the clock has moved on, else the last number plus one.
    """
    outbox.mkdir(parents=True, exist_ok=True)
    handle = os.open(outbox / "sequence", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        stored = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
        last = int(stored) if stored.isdigit() else 0
        number = max(time.time_ns(), last + 1)
        os.pwrite(handle, f"{number:024d}".encode(), 0)
        yield number
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Header:
    """First line of a curve's file.

    Attributes
    ----------
    curve : id. config : digest of the slice. started_at : Unix time, seconds.
    path : the file.
    """

    curve: str
    config: str
    first_step: int
    started_at: float
    sequence: int
    identity: Identity
    path: Path

    @property
    def key(self) -> str:
        """Key of the stage that draws the curve."""
        return self.identity.key


class Point(NamedTuple):
    """Metrics of one step; `time` in Unix seconds."""

    step: int
    time: float
    metrics: dict[str, float]


def curves(outbox: Path) -> list[Header]:
    """Return the header of every live curve, oldest first."""
    found = []
    for path in sorted((Path(outbox) / "live").glob("*.jsonl")):
        try:
            with path.open() as handle:
                content = json.loads(handle.readline())
        except (ValueError, FileNotFoundError):  # being created, or just delivered
            continue
        try:
            content["identity"] = Identity(**content["identity"])
            found.append(Header(**content, path=path))
        except (TypeError, KeyError, AttributeError, UserError) as error:
            aside = path.with_suffix(".unreadable")
            path.replace(aside)
            logger.warning("%s is no live curve and was renamed to %s: %r", path, aside.name, error)
    return found


class LiveCurve:
    """Epoch metrics of a running stage, one JSON line per step, for MLflow to show meanwhile.

    A stage that was killed and goes on from a checkpoint continues its curve, and steps that the
    curve already has are not added again. A stage that begins again at the curve's first step, or
    with another configuration, begins a new curve.
    """

    def __init__(self, outbox: Path, entry: StageEntry) -> None:
        self.outbox = Path(outbox)
        self.entry = entry
        self._path: Path | None = None
        self._last = -1

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add the metrics of one step (an epoch). If that cannot be written, the stage goes on."""
        try:
            self._log(step, metrics)
        except OSError as error:
            logger.warning("step %d is missing from the live curve: %s", step, error)

    def _log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._path is None:
            self._path = self._continued(step) or self._begin(step)
        if step <= self._last:
            return
        line = json.dumps({"step": step, "time": time.time(), "metrics": dict(metrics)})
        with self._path.open("a") as handle:
            handle.write(line + "\n")
        self._last = step

    def _continued(self, step: int) -> Path | None:
        config = digest(self.entry.config)
        header = next((c for c in reversed(curves(self.outbox)) if c.key == self.entry.key), None)
        if header is None or header.config != config or step <= header.first_step:
            return None
        points, whole = read_points(header.path, 0)
        with header.path.open("r+b") as handle:  # a line that a kill cut short
            handle.truncate(whole)
        self._last = max((p.step for p in points), default=-1)
        return header.path

    def _begin(self, step: int) -> Path:
        entry, curve = self.entry, uuid.uuid4().hex
        header = {
            "curve": curve,
            "config": digest(entry.config),
            "first_step": step,
            "started_at": entry.started_at,
            "identity": entry.of,
        }
        live = self.outbox / "live"
        live.mkdir(parents=True, exist_ok=True)
        with sequenced(self.outbox) as number:
            path = live / f"{number:024d}-{curve}.jsonl"
            partial = path.with_suffix(".tmp")
            partial.write_text(json.dumps(header | {"sequence": number}) + "\n")
            partial.replace(path)
        return path


def read_points(path: Path, offset: int) -> tuple[list[Point], int]:
    """Read the whole lines of a curve from `offset` (bytes) on; return points and next offset."""
    with Path(path).open("rb") as handle:
        handle.seek(offset)
        text = handle.read()
    end = text.rfind(b"\n") + 1
    points = []
    for line in text[:end].splitlines():
        try:
            point = json.loads(line)
        except ValueError:
            logger.warning("%s: a line that is no JSON is left out", path.name)
            continue
        if "step" in point:  # not the header
            points.append(Point(**point))
    return points, offset + end
