"""Stage `fold`: one turn of a cross-validation, a prepared set of its own that shares the arrays of the whole one.

Fold k is tested, fold k + 1 validates, all others train (`edgeward.data.split.of_fold`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeward.core import plugins
from edgeward.core.io import sha256
from edgeward.data.config import DataConfig
from edgeward.data.findings import Findings
from edgeward.data.split import of_fold
from edgeward.data.stage import WHERE, split_facts, write_splits
from edgeward.data.store import SPLIT_COLUMNS, SPLITS, Prepared, open_prepared
from edgeward.data.targets import Cases, PixelSums
from edgeward.data.writer import publishing
from edgeward.records.card import Card

_DEALT = ("split.csv", "calibration.csv")  # the files of a turn


def _read(data: Prepared) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the values of each case, float64 (pixels, c), and its labels, uint8 (pixels,), if it has masks."""
    for i in range(len(data.labels)):
        if data.masks is None:
            image, mask = (
                np.moveaxis(data.images[i], -1, 0),
                np.zeros(data.images.shape[1:3], np.uint8),
            )
        else:
            image, mask = data.view(i)
        yield image.reshape(len(image), -1).T.astype(np.float64), mask.reshape(-1)


def sums_of(data: Prepared) -> PixelSums:
    """Return the sums of every case of a prepared set."""
    labels = 1 if data.masks is None else 1 + int(data.masks.max())
    found = [
        (values.sum(0), np.square(values).sum(0), np.bincount(mask, minlength=labels))
        for values, mask in _read(data)
    ]
    values, squares, pixels = map(np.stack, zip(*found, strict=True))
    return PixelSums(values, squares, pixels)


def _cases(data: Prepared, pixels: np.ndarray) -> Cases:
    """Return the cases again, as `prepare` knew them."""
    with (data.root / "split.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    names = {int(row["label"]): row["class"] for row in rows}
    return Cases(
        ids=[row["id"] for row in rows],
        groups=[row["group"] for row in rows],
        labels=data.labels,
        names=[names[label] for label in range(len(names))],
        given=None,
        pixels=pixels,
        foreground=data.classes,
        findings=None if data.findings is None else Findings(data.classes, data.findings),
        columns={
            name: [row[name] for row in rows] for name in rows[0] if name not in SPLIT_COLUMNS
        },
    )


def run(cfg: DataConfig, *, prepared: Path, fold: int, out: Path) -> dict[str, float]:
    """Write ``split.csv``, ``calibration.csv`` and ``card.json`` of one turn.

    Parameters
    ----------
    cfg : the `data` group, whose `split.kind` is folds.
    prepared : folder of the whole set.
    fold : the one that is tested.
    out : folder to write into, below `prepared`.

    Returns
    -------
    Counts of images per split and of calibration images.
    """
    data = open_prepared(prepared)
    sums = sums_of(data)
    cases, splits = _cases(data, sums.pixels), of_fold(data.splits, fold)
    train = np.flatnonzero(splits == "train")
    targets = plugins.load("edgeward.tasks", cfg.task, "data", WHERE).targets(cases)
    with publishing(out) as work:
        calibration = write_splits(work, cases, splits, train, cfg)
        dealt = {name: sha256(work / name) for name in _DEALT}
        facts = split_facts(targets, cases.groups, splits, train, sums)
        facts |= {"calibration": calibration, "hashes": {**data.card.hashes, **dealt}}
        Card(**data.card.content() | facts).write(work / "card.json")
    counts = {f"n_{split}": float(np.sum(splits == split)) for split in SPLITS}
    return {**counts, "n_calibration": float(calibration.n)}
