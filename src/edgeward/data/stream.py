"""The one pass over the pixels of a source: write them, and take what the card and the audit need."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.data.audit import Signatures
from edgeward.data.config import DataConfig
from edgeward.data.listing import Batch, Listing
from edgeward.data.writer import ArrayWriter

log = logging.getLogger(__name__)

NAMED = 20  # unusable images that an error and the card name


@dataclass
class Read:
    """What the one pass over the pixels leaves behind.

    Attributes
    ----------
    rows : int64 (n,), positions in the listing of the images that were read.
    seen : fingerprints of those images.
    sums, squares : (n, c), sums over the pixels of value and squared value.
    pixels : int64 (n, n_labels), how many pixels have each label (n, 1: all, without masks).
    invalid : (name, reason) of the images that were not.
    shape : [h, w, c] of the images, [d, h, w, c] for volumes (median).
    notes : further facts for the card.
    """

    rows: np.ndarray
    seen: Signatures
    sums: np.ndarray
    squares: np.ndarray
    pixels: np.ndarray
    invalid: list[tuple[str, str]]
    shape: list[int]
    notes: dict[str, Any] = field(default_factory=dict)


def stream(listing: Listing, cfg: DataConfig, work: Path) -> Read:
    """Write all readable images (and masks) and take their sums and fingerprints, in one pass."""
    assert cfg.image_size is not None
    size = cfg.image_size
    rows, sums, squares, pixels = [], [], [], []
    seen, invalid = Signatures(), list(listing.invalid)
    masks: ArrayWriter | None = None
    said = time.monotonic()
    with ExitStack() as stack:
        images = stack.enter_context(
            ArrayWriter(work / "images.npy", (size, size, listing.channels))
        )
        for given in listing.batches():
            batch = _usable(given, listing, cfg)
            invalid += [(listing.ids[row], reason) for row, reason in batch.invalid]
            if not len(batch.rows):
                continue
            images.append(batch.images)
            if batch.masks is not None:
                if masks is None:
                    masks = stack.enter_context(ArrayWriter(work / "masks.npy", (size, size)))
                masks.append(batch.masks)
            rows.append(batch.rows)
            seen.add(batch.images)
            sums.append(_pixel_sums(batch.images))
            squares.append(_pixel_sums(np.square(batch.images, dtype=np.uint16)))
            labels = len(listing.foreground) + 1 if cfg.task == "segmentation" else 1
            pixels.append(_label_counts(batch, labels))
            if time.monotonic() - said > 5:
                said = time.monotonic()
                log.info("%d of %d images", images.n, len(listing.ids))
        if masks is not None and masks.n != images.n:
            raise ValueError(f"{masks.n} masks for {images.n} images")
    if not rows:
        raise UserError(
            f"no usable image in {listing.source}{named(invalid)} Change data.source (config/data/)."
        )
    return Read(
        np.concatenate(rows),
        seen,
        np.concatenate(sums),
        np.concatenate(squares),
        np.concatenate(pixels),
        invalid,
        [size, size, listing.channels],
    )


def _usable(batch: Batch, listing: Listing, cfg: DataConfig) -> Batch:
    """Take images out whose mask is missing or holds a label that has no name."""
    if cfg.task != "segmentation" or not len(batch.rows):
        return batch
    if batch.masks is None:
        raise ValueError(f"{listing.source} announced masks and gave a batch without")
    highest = batch.masks.reshape(len(batch.rows), -1).max(1)
    good = highest <= len(listing.foreground)
    if good.all():
        return batch
    wrong = tuple(
        (int(row), f"its mask holds label {int(label)}, the highest is {len(listing.foreground)}")
        for row, label in zip(batch.rows[~good], highest[~good], strict=True)
    )
    return Batch(batch.rows[good], batch.images[good], batch.masks[good], batch.invalid + wrong)


def _label_counts(batch: Batch, labels: int) -> np.ndarray:
    """Count the pixels of each label: int64 (b, labels); all pixels, (b, 1), for one label."""
    b, h, w = batch.images.shape[:3]
    if labels == 1 or batch.masks is None:
        return np.full((b, 1), h * w, np.int64)
    return np.stack([np.bincount(m.reshape(-1), minlength=labels) for m in batch.masks])


def _pixel_sums(values: np.ndarray) -> np.ndarray:
    """Sum unsigned (b, h, w, c) over the pixels: int64 (b, c), exact for sides up to 1024."""
    b, h, w, c = values.shape
    lines = values.reshape(b, h, w * c).sum(1, dtype=np.uint32)  # whole lines add up fastest
    return lines.reshape(b, w, c).sum(1, dtype=np.int64)


def named(invalid: list[tuple[str, str]]) -> str:
    """Return the first names and reasons, to follow a sentence."""
    if not invalid:
        return "."
    lines = [f"  {name}: {reason}" for name, reason in invalid[:NAMED]]
    more = [f"  and {len(invalid) - NAMED} more"] if len(invalid) > NAMED else []
    return ":\n" + "\n".join([*lines, *more]) + "\n"
