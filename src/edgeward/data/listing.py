"""What a source hands to `prepare`: a list of images, and a way to stream their pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

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
    """

    source: Any
    image_size: int
    seed: int
    data_root: Path | None


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


@dataclass(frozen=True)
class Listing:
    """The labelled images of a source; no pixel is read until `batches` is consumed.

    Attributes
    ----------
    classes : class names in label order; for segmentation the strata that the split keeps equal.
    ids, groups : per image; one group is one lesion or patient.
    labels : int64 (n,); None: for segmentation, the strata follow from the masks.
    splits : str (n,), the sides that the source gives its images, or None.
    channels : 1 or 3.
    batches : streams all images once, in order, a bounded number at a time.
    foreground : what the labels 1, 2, ... of the masks are; empty where there are no masks.
    invalid : (name, reason) of what could not even be listed.
    notes : further facts for card.json.
    """

    classes: list[str]
    ids: list[str]
    labels: np.ndarray | None
    groups: list[str]
    splits: np.ndarray | None
    channels: int
    batches: Callable[[], Iterator[Batch]]
    source: str
    licence: str
    citation: str
    foreground: list[str] = field(default_factory=list)
    invalid: list[tuple[str, str]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


def chunk_length(image_size: int, channels: int) -> int:
    """Return how many images make a chunk of about `CHUNK_BYTES`."""
    return max(1, CHUNK_BYTES // (image_size * image_size * channels))
