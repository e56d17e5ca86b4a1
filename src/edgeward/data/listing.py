"""What a source hands to `prepare`: a list of cases, and a way to read their pixels or voxels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.data.door import BadImage, Door
from edgeward.data.findings import Findings
from edgeward.data.store import SPLITS

__all__ = ["BadImage", "Batch", "Listing", "RawCase", "Request", "images_per_chunk"]

CHUNK_BYTES = 8 << 20  # decoded pixels held at a time


@dataclass(frozen=True)
class Request:
    """What a source needs to know to open itself.

    Attributes
    ----------
    source : the config of the source (for kind ``python``, its `options`).
    image_size : side of the square images, pixels; 0 for volumes.
    seed : the data set's seed.
    data_root : folder of the user's data sets, or None if none was given.
    door : what files are opened by.
    """

    source: Any
    image_size: int
    seed: int
    data_root: Path | None
    door: Door = field(default_factory=Door, compare=False)


@dataclass(frozen=True)
class Batch:
    """Some images of a listing, in its order.

    Attributes
    ----------
    rows : int64 (b,), positions in the listing of the images that could be read.
    images : uint8 (b, size, size, c).
    masks : uint8 (b, size, size), label indices, or None where the source has none.
    invalid : (row, reason) of images that could not be read.
    """

    rows: np.ndarray
    images: np.ndarray
    masks: np.ndarray | None = None
    invalid: tuple[tuple[int, str], ...] = ()

    def check(self, source: str, n: int, shape: tuple[int, ...]) -> None:
        """Refuse a batch that does not keep to this, of n cases, of `shape` (size, size) or (size, size, c); UserError."""
        rows, images, masks = self.rows, self.images, self.masks
        faults = []
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or images.ndim != 4:
            faults.append("rows must be int (b,), images (b, size, size, c)")
        elif len(rows) != len(images) or len(np.unique(rows)) != len(rows):
            faults.append(f"{len(np.unique(rows))} rows, {len(images)} images")
        elif len(rows) and not 0 <= rows.min() <= rows.max() < n:
            faults.append(f"rows {rows.min()} to {rows.max()} of {n} cases")
        elif images.dtype != np.uint8 or (len(rows) and images.shape[1 : 1 + len(shape)] != shape):
            faults.append(
                f"images {images.dtype} {images.shape}, uint8 (b, size, size, c) are needed, {shape} or more"
            )
        elif (
            masks is not None
            and len(rows)
            and (masks.dtype, masks.shape) != (np.uint8, images.shape[:3])
        ):
            faults.append(f"masks {masks.dtype} {masks.shape}")
        if faults:
            raise UserError(
                f"{source}: its reader gave a wrong Batch: {faults[0]} (edgeward.data.listing)."
            )


@dataclass(frozen=True)
class RawCase:
    """A volume and its mask as they are stored.

    Attributes
    ----------
    image : (c, i, j, k), any real dtype.
    mask : uint8 (i, j, k), label indices: 0 background, 1 the first class of the listing's foreground; None where it has none.
    affine : float64 (4, 4), indices (i, j, k, 1) -> mm, RAS+ (as in nibabel).
    """

    image: np.ndarray
    mask: np.ndarray | None
    affine: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The cases of a source; nothing is read until `batches` is consumed or `read` is called.

    Attributes
    ----------
    ids, groups : per case; one group is one lesion or patient.
    splits : str (n,), the sides that the source gives its cases, or None.
    classes : class names in label order; empty where there are no labels.
    labels : int64 (n,), the class of each case; None where there are masks only.
    findings : where a case may have several labels or none; None where it has one, or masks only.
    foreground : what the labels 1, 2, ... of the masks are; empty where there are no masks.
    channels : of images in the plane, 1 or 3.
    batches : images in the plane: streams all of them once, in order, a bounded number at a time.
    read : volumes: row -> the case; raises `BadImage` with the reason if it cannot.
    columns : what else is known of the cases, for subgroups: name -> n values, "" where it is not known.
    meanings : what codes among the classes and the foreground stand for.
    synthetic : whether the cases are drawn, and of no patient.
    invalid : (name, reason) of what could not even be listed.
    notes : further facts for card.json.
    """

    ids: list[str]
    groups: list[str]
    splits: np.ndarray | None
    source: str
    licence: str
    citation: str
    classes: list[str] = field(default_factory=list)
    labels: np.ndarray | None = None
    findings: Findings | None = None
    foreground: list[str] = field(default_factory=list)
    channels: int = 0
    batches: Callable[[], Iterator[Batch]] | None = None
    read: Callable[[int], RawCase] | None = None
    columns: dict[str, list[str]] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)
    synthetic: bool = False
    invalid: list[tuple[str, str]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse a listing that does not keep to this; UserError."""
        n, sides = len(self.ids), np.array([] if self.splits is None else self.splits)
        labels = np.array([], np.int64) if self.labels is None else np.asarray(self.labels)
        faults = {
            "ids": "repeat" if len(set(self.ids)) != n else "",
            "groups": f"are {len(self.groups)} for {n} cases" if len(self.groups) != n else "",
            "labels": "must be int (n,), indices of classes"
            if self.labels is not None
            and (
                labels.shape != (n,)
                or labels.dtype.kind not in "iu"
                or (n and not 0 <= labels.min() <= labels.max() < len(self.classes))
            )
            else "",
            "splits": f"must be str (n,) of {', '.join(SPLITS)}"
            if self.splits is not None
            and (sides.shape != (n,) or not set(sides.tolist()) <= set(SPLITS))
            else "",
            "columns": "must have n values each"
            if any(len(v) != n for v in self.columns.values())
            else "",
            "batches, read": "one of them is needed"
            if (self.batches is None) == (self.read is None)
            else "",
        }
        for key, fault in faults.items():
            if fault:
                raise UserError(
                    f"{self.source}: its reader gave a wrong Listing: {key} {fault} (edgeward.data.listing)."
                )

    @property
    def spatial_dims(self) -> int:
        """2 for images, 3 for volumes."""
        return 2 if self.read is None else 3


def images_per_chunk(image_size: int, channels: int) -> int:
    """Return how many images make a chunk of about `CHUNK_BYTES`."""
    return max(1, CHUNK_BYTES // (image_size * image_size * channels))
