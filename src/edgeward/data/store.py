"""Prepared data on disk: how every later stage reads it.

A prepared folder of images, or of volumes of one shape (n x d x h x w x c), holds ``images.npy`` (uint8, n x h x w x c), ``labels.npy`` (int64, n; of findings int8, n x c),
``split.csv`` (index,id,label,class,group,split, and what else is known of a case), ``calibration.csv`` (index), ``card.json`` and,
where the source has them, ``masks.npy`` (uint8, n x h x w, label indices, 0 is background).

Volumes with masks have shapes of their own, so the same two array files are flat there: ``images.npy`` (float16)
and ``masks.npy`` (uint8) are all volumes one after the other, and ``volumes.csv`` says where each
begins, its shape, spacing and geometry.
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from edgeward.core.errors import UserError
from edgeward.records.card import Card

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
SPLIT_COLUMNS = ("index", "id", "label", "class", "group", "split")
FOLD = re.compile(
    r"fold\d+"
)  # the folder of one turn of a cross-validation, and the folds in ``split.csv``
VOLUME_COLUMNS = (
    "index", "offset_image", "offset_mask", "channels", "depth", "height", "width",
    "spacing_d", "spacing_h", "spacing_w", "affine", "source_shape", "source_affine",
)  # fmt: skip


def sides(splits: np.ndarray) -> list[str]:
    """Return what cases are dealt to, in order, from the side of each case, str (n,): train (where something is trained), val and test,
    or folds."""
    found = set(splits.tolist())
    if found and all(map(FOLD.fullmatch, found)):
        return sorted(found, key=lambda name: int(name[4:]))
    return [split for split in SPLITS if split in found or split != "train"]


@dataclass(frozen=True)
class Volume:
    """Where a volume lies in the flat arrays, and where its voxels lie in the patient.

    Attributes
    ----------
    offset_image, offset_mask : first element in ``images.npy`` and ``masks.npy``.
    shape : (c, d, h, w). The axes d, h, w run to superior, anterior, right.
    spacing : (d, h, w), mm.
    affine : float64 (4, 4), prepared indices (w, h, d, 1) -> mm, RAS+ (as in nibabel).
    source_shape : (i, j, k) of the file, as stored.
    source_affine : float64 (4, 4), indices of the file (i, j, k, 1) -> mm, RAS+.
    """

    offset_image: int
    offset_mask: int
    shape: tuple[int, int, int, int]
    spacing: tuple[float, float, float]
    affine: np.ndarray
    source_shape: tuple[int, int, int]
    source_affine: np.ndarray


@dataclass(frozen=True)
class Prepared:
    """A prepared data set; the images stay on disk until a batch of them is indexed.

    Attributes
    ----------
    images : memory map, values 0-255: uint8 (n, *spatial, c), or float16, flat, where volumes differ in shape.
    masks : memory map, uint8 label indices: (n, h, w), or for volumes flat; None without masks.
    volumes : where each volume lies; None where all cases have one shape, and are taken whole.
    labels : int64, shape (n,): the class of the image; of masks and findings the stratum of the case.
    findings : int8, shape (n, c), where a case may have several classes or none: 1 it has, 0 it has not, -1 nobody says.
    groups : int64, shape (n,): the same number for images of the same lesion or patient.
    splits : str, shape (n,): "train", "val" or "test"; before a fold is chosen, the fold of each.
    calibration : int64, indices into the images, a subset of train.
    card : the facts of the data, as in ``card.json``.
    columns : what else is known of each case: name -> str (n,), "" where it is not known.
    """

    root: Path
    card: Card
    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    splits: np.ndarray
    calibration: np.ndarray
    masks: np.ndarray | None = None
    volumes: list[Volume] | None = None
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    findings: np.ndarray | None = None

    @property
    def truth(self) -> np.ndarray:
        """What models of whole images learn: int64 (n,), the class; or int8 (n, c), the findings."""
        return self.labels if self.findings is None else self.findings

    @property
    def classes(self) -> list[str]:
        """Class names in label order; where masks are predicted the foreground, so that label 1 is first."""
        return self.card.classes

    @property
    def task(self) -> str:
        """What is predicted: the name of a folder of `edgeward.tasks`."""
        return self.card.task

    @property
    def spatial_dims(self) -> int:
        """2 for images, 3 for volumes."""
        return self.card.spatial_dims

    @property
    def n_labels(self) -> int:
        """Number of outputs of a model: the classes and, where masks are predicted, the background."""
        return self.card.n_labels

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs of a model, in their order: the classes, behind the background where masks are predicted."""
        return self.classes if self.n_labels == len(self.classes) else ["background", *self.classes]

    def held(self, indices: np.ndarray) -> np.ndarray:
        """Return which of some cases have which class, bool (n, c): their one class, or findings that are known to be there."""
        truth = self.truth[indices]
        return truth == 1 if truth.ndim == 2 else truth[:, None] == np.arange(len(self.classes))

    def view(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a case as it is stored, read from disk only where it is sliced.

        Returns
        -------
        image : (c, *spatial), uint8 (float16 for volumes), values 0-255.
        mask : uint8 (*spatial), label indices.

        Raises
        ------
        UserError
            If the set has no masks.
        """
        if self.masks is None:
            raise UserError(
                f"{self.root} has no masks: prepare it from a source that gives some (data.source, config/data/)."
            )
        if self.volumes is None:
            return np.moveaxis(self.images[index], -1, 0), self.masks[index]
        at = self.volumes[index]
        spatial = at.shape[1:]
        image = self.images[at.offset_image : at.offset_image + math.prod(at.shape)]
        mask = self.masks[at.offset_mask : at.offset_mask + math.prod(spatial)]
        return image.reshape(at.shape), mask.reshape(spatial)

    def case(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a whole case: float32 (c, *spatial), 0-255, and its mask, uint8 (*spatial)."""
        image, mask = self.view(index)
        return np.ascontiguousarray(image, dtype=np.float32), np.array(mask)

    def spacing(self, index: int) -> tuple[float, ...]:
        """Return the distance of neighbours along each spatial axis: mm, or 1.0 pixel in 2-D."""
        if self.volumes is None:
            return (1.0,) * self.spatial_dims
        return self.volumes[index].spacing

    def indices(self, split: Split) -> np.ndarray:
        """Return the image indices of a split, ascending, int64."""
        return np.flatnonzero(self.splits == split)


def open_prepared(root: Path) -> Prepared:
    """Open a prepared folder without loading its images; the arrays of a fold lie in the folder above.

    Raises
    ------
    UserError
        If a file is missing, or the files do not belong together.
    """
    root = Path(root)
    arrays = root.parent if FOLD.fullmatch(root.name) else root
    needed = [arrays / "images.npy", arrays / "labels.npy"]
    needed += [root / name for name in ("split.csv", "calibration.csv", "card.json")]
    missing = [path.name for path in needed if not path.is_file()]
    if missing:
        raise UserError(f"{root} is not a prepared data set: {', '.join(missing)} missing.")
    images = np.load(arrays / "images.npy", mmap_mode="r", allow_pickle=False)
    labels = np.load(arrays / "labels.npy", allow_pickle=False)
    masks = None
    if (arrays / "masks.npy").is_file():
        masks = np.load(arrays / "masks.npy", mmap_mode="r", allow_pickle=False)
    volumes = read_volumes(arrays / "volumes.csv") if (arrays / "volumes.csv").is_file() else None
    with (root / "split.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    n = len(images) if volumes is None else len(volumes)
    if not n == len(labels) == len(rows):
        raise UserError(
            f"{root}: {n} images, {len(labels)} labels and {len(rows)} rows in split.csv; "
            "prepare it again."
        )
    _, groups = np.unique([row["group"] for row in rows], return_inverse=True)
    stratum = np.array([int(row["label"]) for row in rows], dtype=np.int64)
    with (root / "calibration.csv").open(newline="") as handle:
        calibration = np.array(
            [int(row["index"]) for row in csv.DictReader(handle)], dtype=np.int64
        )
    return Prepared(
        root=root,
        card=Card.read(root / "card.json"),
        images=images,
        labels=stratum if labels.ndim == 2 else labels,
        findings=labels if labels.ndim == 2 else None,
        groups=groups.astype(np.int64),
        splits=np.array([row["split"] for row in rows]),
        calibration=calibration,
        masks=masks,
        volumes=volumes,
        columns={
            name: np.array([row[name] for row in rows])
            for name in (rows[0] if rows else {})
            if name not in SPLIT_COLUMNS
        },
    )


def read_volumes(path: Path) -> list[Volume]:
    """Read ``volumes.csv``."""
    with path.open(newline="") as handle:
        return [_volume(row) for row in csv.DictReader(handle)]


def _volume(row: dict[str, str]) -> Volume:
    def affine(name: str) -> np.ndarray:
        return np.vstack([np.array(row[name].split(), float).reshape(3, 4), [0, 0, 0, 1]])

    i, j, k = map(int, row["source_shape"].split())
    return Volume(
        offset_image=int(row["offset_image"]),
        offset_mask=int(row["offset_mask"]),
        shape=(int(row["channels"]), int(row["depth"]), int(row["height"]), int(row["width"])),
        spacing=(float(row["spacing_d"]), float(row["spacing_h"]), float(row["spacing_w"])),
        affine=affine("affine"),
        source_shape=(i, j, k),
        source_affine=affine("source_affine"),
    )


def to_input(images: np.ndarray) -> np.ndarray:
    """Turn stored images into what every model takes.

    Parameters
    ----------
    images : uint8, shape (b, *spatial, c).

    Returns
    -------
    float32, shape (b, c, *spatial), contiguous, values 0-255 (the model normalises inside).
    """
    return np.ascontiguousarray(np.moveaxis(images, -1, 1), dtype=np.float32)
