"""Prepared data on disk: how every later stage reads it.

A prepared folder holds ``images.npy`` (uint8, n x h x w x c), ``labels.npy`` (int64, n),
``split.csv`` (index,id,label,class,group,split), ``calibration.csv`` (index), ``card.json`` and,
where the source has them, ``masks.npy`` (uint8, n x h x w, 0/1).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgeward.core.errors import UserError
from edgeward.core.io import read_json

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Prepared:
    """A prepared data set; the images stay on disk until a batch of them is indexed.

    Attributes
    ----------
    images : uint8 memory map, shape (n, h, w, c), values 0-255.
    labels : int64, shape (n,).
    groups : int64, shape (n,): the same number for images of the same lesion or patient.
    splits : str, shape (n,): "train", "val" or "test".
    calibration : int64, indices into the images, a subset of train.
    card : the facts of the data, as in ``card.json``.
    """

    root: Path
    card: dict[str, Any]
    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    splits: np.ndarray
    calibration: np.ndarray

    @property
    def classes(self) -> list[str]:
        """Class names in label order."""
        return list(self.card["classes"])

    def indices(self, split: Split) -> np.ndarray:
        """Return the image indices of a split, ascending, int64."""
        return np.flatnonzero(self.splits == split)


def open_prepared(root: Path) -> Prepared:
    """Open a prepared folder without loading its images.

    Raises
    ------
    UserError
        If a file is missing, or the files do not belong together.
    """
    root = Path(root)
    needed = ("images.npy", "labels.npy", "split.csv", "calibration.csv", "card.json")
    missing = [name for name in needed if not (root / name).is_file()]
    if missing:
        raise UserError(f"{root} is not a prepared data set: {', '.join(missing)} missing.")
    images = np.load(root / "images.npy", mmap_mode="r", allow_pickle=False)
    labels = np.load(root / "labels.npy", allow_pickle=False)
    with (root / "split.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    if not len(images) == len(labels) == len(rows):
        raise UserError(
            f"{root}: {len(images)} images, {len(labels)} labels and {len(rows)} rows in split.csv; "
            "prepare it again."
        )
    _, groups = np.unique([row["group"] for row in rows], return_inverse=True)
    with (root / "calibration.csv").open(newline="") as handle:
        calibration = np.array(
            [int(row["index"]) for row in csv.DictReader(handle)], dtype=np.int64
        )
    return Prepared(
        root=root,
        card=read_json(root / "card.json"),
        images=images,
        labels=labels,
        groups=groups.astype(np.int64),
        splits=np.array([row["split"] for row in rows]),
        calibration=calibration,
    )


def to_input(images: np.ndarray) -> np.ndarray:
    """Turn stored images into what every model takes.

    Parameters
    ----------
    images : uint8, shape (b, h, w, c).

    Returns
    -------
    float32, shape (b, c, h, w), contiguous, values 0-255 (the model normalises inside).
    """
    return np.ascontiguousarray(np.moveaxis(images, -1, 1), dtype=np.float32)
