"""The one pass over the pixels of a source: write them, and take what the card and the audit need."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgeward.core.errors import UserError
from edgeward.data.audit import Signatures
from edgeward.data.config import DataConfig
from edgeward.data.door import WHERE, Door, said, shown
from edgeward.data.listing import Batch, Listing
from edgeward.data.writer import ArrayWriter, Part

log = logging.getLogger(__name__)

NAMED = 20  # unusable images that an error and the card name


class Sink(Protocol):
    """Reads the cases of a listing and writes their arrays, of one dimension."""

    def parts(self, seen: Signatures) -> Iterator[Part]:
        """Write all cases, a bounded number at a time, and leave their fingerprints in `seen`."""

    def described(self) -> tuple[list[int], dict[str, Any]]:
        """Return the shape of the cases, channels last (of volumes the median), and notes for the card."""


@dataclass
class Streamed:
    """What the one pass over the pixels leaves behind: `Part` of all cases, and

    Attributes
    ----------
    seen : fingerprints of the cases.
    shape, notes : see `Sink.described`.
    """

    whole: Part
    seen: Signatures
    shape: list[int]
    notes: dict[str, Any]


def stream(listing: Listing, cfg: DataConfig, work: Path, door: Door) -> Streamed:
    """Write all readable cases, and take their sums and fingerprints, in one pass."""
    seen, parts, said = Signatures(), [], time.monotonic()
    with ExitStack() as stack:
        if cfg.volume is None:
            sink: Sink = Images(listing, work, stack, door, cfg.image_size or 0)
        else:
            from edgeward.data.volumes import stream as volumes  # its readers take a second to load

            kind = volumes.Volumes if cfg.volume.shape is None else volumes.Whole
            sink = kind(listing, cfg.volume, work, stack, door)
        for part in sink.parts(seen):
            parts.append(part)
            if time.monotonic() - said > 5:
                said = time.monotonic()
                done = sum(len(p.rows) for p in parts)
                log.info("%d of %d cases", done, len(listing.ids))
    invalid = [*listing.invalid, *(bad for part in parts for bad in part.invalid)]
    filled = [part for part in parts if len(part.rows)]
    if not filled:
        raise UserError(
            f"no usable case in {listing.source}{named(invalid)} Change data.source (config/data/)."
        )
    arrays = ("rows", "sums", "squares", "pixels")
    whole = {name: np.concatenate([getattr(part, name) for part in filled]) for name in arrays}
    return Streamed(Part(**whole, invalid=invalid), seen, *sink.described())


class Images:
    """Images in the plane: ``images.npy`` uint8 (n, h, w, c), ``masks.npy`` uint8 (n, h, w)."""

    def __init__(
        self, listing: Listing, work: Path, stack: ExitStack, door: Door, size: int
    ) -> None:
        self.listing, self.work, self.stack, self.door = listing, work, stack, door
        self.size = size
        self.shape: list[int] = []

    def parts(self, seen: Signatures) -> Iterator[Part]:
        listing, masks = self.listing, None
        read = np.zeros(len(listing.ids), bool)
        for given in _batches(listing):
            given.check(listing.source, len(read), (self.size, self.size, *self.shape[2:]))
            if read[given.rows].any():
                raise UserError(f"{listing.source}: its reader gave a case twice.")
            read[given.rows] = True
            batch = _varied(_usable(given, listing), self.door)
            if len(batch.rows):
                if not self.shape:
                    self.shape = list(batch.images.shape[1:])
                    images = self._open("images.npy", batch.images)
                    masks = None if batch.masks is None else self._open("masks.npy", batch.masks)
                images.append(batch.images)
                if masks is not None and batch.masks is not None:
                    masks.append(batch.masks)
                seen.add(batch.images, batch.masks)
            yield Part(
                batch.rows,
                _pixel_sums(batch.images),
                _pixel_sums(np.square(batch.images, dtype=np.uint16)),
                _label_counts(batch, 1 + len(listing.foreground)),
                [(listing.ids[row], reason) for row, reason in batch.invalid],
            )

    def _open(self, name: str, arrays: np.ndarray) -> ArrayWriter:
        return self.stack.enter_context(ArrayWriter(self.work / name, arrays.shape[1:]))

    def described(self) -> tuple[list[int], dict[str, Any]]:
        return self.shape, {}


def _batches(listing: Listing) -> Iterator[Batch]:
    """Stream the batches of a listing; whatever its reader raises is a UserError."""
    assert listing.batches is not None
    try:
        yield from listing.batches()
    except UserError:
        raise
    except Exception as error:  # a reader of one's own raises what it likes
        log.debug("a reader failed", exc_info=True)
        raise UserError(f"{listing.source}: its reader failed ({said(error)}).") from error


def _varied(batch: Batch, door: Door) -> Batch:
    """Take images out that are all of one value, or count them, as `data.checks.constant` says."""
    if not len(batch.rows):
        return batch
    flat = batch.images.reshape(len(batch.rows), -1, batch.images.shape[-1])
    same = (flat == flat[:, :1]).all((1, 2))
    if not same.any():
        return batch
    if door.checks.constant == "keep":
        door.noted["constant"] += int(same.sum())
        return batch
    wrong = tuple(
        (
            int(row),
            f"all its pixels have one value, {flat[at, 0].tolist()} (data.checks.constant {WHERE})",
        )
        for at, row in zip(np.flatnonzero(same), batch.rows[same], strict=True)
    )
    masks = None if batch.masks is None else batch.masks[~same]
    return Batch(batch.rows[~same], batch.images[~same], masks, batch.invalid + wrong)


def _usable(batch: Batch, listing: Listing) -> Batch:
    """Take images out whose mask is missing or holds a label that has no name."""
    if not listing.foreground or not len(batch.rows):
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
    counts = [np.bincount(m.reshape(-1), minlength=labels) for m in batch.masks]
    return np.array(counts, np.int64).reshape(b, labels)


def _pixel_sums(values: np.ndarray) -> np.ndarray:
    """Sum unsigned (b, h, w, c) over the pixels: int64 (b, c), exact for sides up to 1024."""
    b, h, w, c = values.shape
    lines = values.reshape(b, h, w * c).sum(1, dtype=np.uint32)  # whole lines add up fastest
    return lines.reshape(b, w, c).sum(1, dtype=np.int64)


def named(invalid: list[tuple[str, str]]) -> str:
    """Return the first names and reasons, to follow a sentence."""
    if not invalid:
        return "."
    lines = [f"  {shown(name)}: {reason}" for name, reason in invalid[:NAMED]]
    more = [f"  and {len(invalid) - NAMED} more"] if len(invalid) > NAMED else []
    return ":\n" + "\n".join([*lines, *more]) + "\n"
