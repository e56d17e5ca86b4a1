"""The record of training: one row an epoch, its log line, its file, and when to stop."""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import SupportsFloat

from edgeward.core.errors import UserError
from edgeward.core.io import atomic

logger = logging.getLogger(__name__)

Row = dict[str, float]


def curve(row: Row) -> dict[str, float]:
    """Return the metrics of an epoch for a live curve; those that are undefined (NaN) are left out."""
    return {key: value for key, value in row.items() if key != "epoch" and not math.isnan(value)}


def check_finite(loss: float, epoch: int, step: int) -> None:
    """Raise a UserError if the loss is NaN or infinite."""
    if not math.isfinite(loss):
        raise UserError(
            f"training diverged: loss {loss} in epoch {epoch + 1}, step {step + 1}. "
            "Lower 'lr' or 'grad_clip', or raise 'warmup_fraction', in config/train/."
        )


def log_epoch(row: Row, epochs: int, shown: Mapping[str, str]) -> None:
    """Log one line on the epoch of `row`: progress, loss, the metrics `shown` (heading -> name), speed, time left."""
    found = [f"{heading} {row[name]:.3f}" for heading, name in shown.items()]
    logger.info(
        "epoch %d/%d: loss %.3f, val %s, %.1f images/s, %s left",
        row["epoch"],
        epochs,
        row["train_loss"],
        ", ".join(found),
        row["images_per_second"],
        _duration((epochs - row["epoch"]) * row["seconds"]),
    )


class Pace:
    """Says now and then how far an epoch is: on a small machine it may take an hour.

    Parameters
    ----------
    epoch, epochs : number of the epoch, from 1, and of all of them.
    steps : in this epoch.
    """

    EVERY_S = 60.0

    def __init__(self, epoch: int, epochs: int, steps: int) -> None:
        self.epoch, self.epochs, self.steps = epoch, epochs, steps
        self.started = self.said = time.perf_counter()

    def step(self, losses: Sequence[SupportsFloat]) -> None:
        """Note that another step is done; `losses` are those of all steps of the epoch so far."""
        now, done = time.perf_counter(), len(losses)
        if now - self.said < self.EVERY_S or done == self.steps:
            return
        self.said = now
        left = (now - self.started) / done * (self.steps - done)
        logger.info(
            "epoch %d/%d, %.0f %%: loss %.3f, %s left in this epoch",
            self.epoch,
            self.epochs,
            100 * done / self.steps,
            sum(map(float, losses)) / done,
            _duration(left),
        )


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 100 else f"{seconds:.0f} s"


def write_history(path: Path, rows: list[Row]) -> None:
    """Write the rows as CSV, atomically; all have the keys of the first, in its order."""
    with atomic(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def best_epoch(rows: list[Row], watched: str) -> int:
    """Return the position of the first row with the highest value of the metric `watched`."""

    def score(i: int) -> tuple[float, int]:
        value = rows[i][watched]
        return (-math.inf if math.isnan(value) else value), -i

    return max(range(len(rows)), key=score)


def finished(rows: list[Row], watched: str, epochs: int, patience: int) -> bool:
    """Say whether training has seen all epochs, or `patience` of them without a better value of `watched`."""
    if not rows:
        return False
    return len(rows) >= epochs or len(rows) - 1 - best_epoch(rows, watched) >= patience
