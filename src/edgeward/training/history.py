"""The record of training: one row an epoch, its log line, its file, and when to stop."""

from __future__ import annotations

import csv
import logging
import math
from pathlib import Path

from edgeward.core.io import atomic

logger = logging.getLogger(__name__)

COLUMNS = (
    "epoch",
    "train_loss",
    "val_loss",
    "val_auc",
    "val_balanced_accuracy",
    "val_rare_recall",
    "lr",
    "images_per_second",
    "seconds",
)
Row = dict[str, float]


def curve(row: Row) -> dict[str, float]:
    """Return the metrics of an epoch for a live curve; those that are undefined (NaN) are left out."""
    return {key: value for key, value in row.items() if key != "epoch" and not math.isnan(value)}


def log_epoch(row: Row, epochs: int) -> None:
    """Log one line on the epoch of `row`: progress, loss, metrics, speed, time left."""
    left = (epochs - row["epoch"]) * row["seconds"]
    logger.info(
        "epoch %d/%d: loss %.3f, val AUC %.3f, balanced accuracy %.3f, rare recall %.3f, "
        "%.0f images/s, %s left",
        row["epoch"],
        epochs,
        row["train_loss"],
        row["val_auc"],
        row["val_balanced_accuracy"],
        row["val_rare_recall"],
        row["images_per_second"],
        f"{left / 60:.0f} min" if left >= 100 else f"{left:.0f} s",
    )


def write_history(path: Path, rows: list[Row]) -> None:
    """Write the rows as CSV, atomically, with columns in the order of `COLUMNS`."""
    with atomic(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def score(row: Row) -> float:
    """Return what early stopping maximises: balanced accuracy on validation."""
    value = row["val_balanced_accuracy"]
    return -math.inf if math.isnan(value) else value


def best_epoch(rows: list[Row]) -> int:
    """Return the position of the first row with the best score."""
    return max(range(len(rows)), key=lambda i: (score(rows[i]), -i))


def finished(rows: list[Row], epochs: int, patience: int) -> bool:
    """Say whether training has seen all epochs, or `patience` of them without a better score."""
    return bool(rows) and (len(rows) >= epochs or len(rows) - 1 - best_epoch(rows) >= patience)
