"""The record of training: one row an epoch, its log line, its file, and when to stop."""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import SupportsFloat

from edgeward.core.io import atomic

logger = logging.getLogger(__name__)

Row = dict[str, float]


def curve(row: Row) -> dict[str, float]:
    """Return the metrics of an epoch for a live curve; those that are undefined (NaN) are left out."""
    return {key: value for key, value in row.items() if key != "epoch" and not math.isnan(value)}


def log_epoch(row: Row, epochs: int) -> None:
    """Log one line on the epoch of `row`: progress, loss, metrics, speed, time left."""
    said = {
        "AUC": "val_auc",
        "balanced accuracy": "val_balanced_accuracy",
        "rare recall": "val_rare_recall",
        "Dice": "val_dice",
    }
    found = [f"{name} {row[key]:.3f}" for name, key in said.items() if key in row]
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


def score(row: Row) -> float:
    """Return what early stopping maximises on validation: mean class Dice, or balanced accuracy."""
    value = row["val_dice" if "val_dice" in row else "val_balanced_accuracy"]
    return -math.inf if math.isnan(value) else value


def best_epoch(rows: list[Row]) -> int:
    """Return the position of the first row with the best score."""
    return max(range(len(rows)), key=lambda i: (score(rows[i]), -i))


def finished(rows: list[Row], epochs: int, patience: int) -> bool:
    """Say whether training has seen all epochs, or `patience` of them without a better score."""
    return bool(rows) and (len(rows) >= epochs or len(rows) - 1 - best_epoch(rows) >= patience)
