"""The one pass over the volumes of a source: one grid, one scale, flat arrays; one case at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from edgeward.data.audit import Signatures
from edgeward.data.door import WHERE, BadImage, Door
from edgeward.data.listing import Listing, RawCase
from edgeward.data.store import VOLUME_COLUMNS
from edgeward.data.volume_config import VolumeConfig
from edgeward.data.volumes.grid import (
    Grid,
    check_affine,
    oriented,
    resample,
    resample_mask,
    resampled_grid,
)
from edgeward.data.volumes.intensity import scaled
from edgeward.data.writer import ArrayWriter, Part, write_csv


@dataclass
class Case:
    """A volume as it is brought to the grid: image float16 (c, d, h, w) 0-255, mask uint8 (d, h, w) or None."""

    image: np.ndarray
    mask: np.ndarray | None
    grid: Grid
    source: Grid


def brought(raw: RawCase, cfg: VolumeConfig, door: Door) -> Case:
    """Turn, resample and scale a case.

    Raises
    ------
    BadImage
        If its affine is unusable, its values are not finite, it is smaller than `min_side` or larger than `data.limits` allows, or
        has no contrast.
    """
    check_affine(raw.affine, door.checks.spacing)
    if raw.image.dtype.kind not in "iuf" or not _finite(raw.image):
        raise BadImage("holds values that are not finite (NaN or infinite), or no real numbers")
    image, source = oriented(raw.image, raw.affine)
    mask = None if raw.mask is None else oriented(raw.mask, raw.affine)[0]
    grid = resampled_grid(source, cfg.spacing)
    if min(grid.shape) < cfg.min_side:
        raise BadImage(
            f"{_by(grid.shape)} voxels at data.volume.spacing: every side must have "
            f"at least {cfg.min_side} (min_side)"
        )
    ratio = np.prod(grid.shape, dtype=float) / np.prod(source.shape, dtype=float)
    if ratio > door.limits.resampling:
        raise BadImage(
            f"from {_by(source.shape)} to {_by(grid.shape)} voxels at data.volume.spacing, {ratio:.0f} times as many: "
            f"data.limits.resampling {WHERE} allows {door.limits.resampling:g}"
        )
    door.check_voxels(
        len(image) * int(np.prod(grid.shape, dtype=object)), " at data.volume.spacing"
    )
    channels = [resample(c.astype(np.float32), source, grid, 1) for c in image]
    prepared = scaled(np.stack(channels), cfg)
    if prepared.min() == prepared.max():
        if door.checks.constant == "invalid":
            raise BadImage(
                f"all its voxels become one value, {float(prepared.min()):g}, by data.volume.intensity (data.checks.constant {WHERE})"
            )
        door.noted["constant"] += 1
    return Case(
        prepared,
        None if mask is None else np.ascontiguousarray(resample_mask(mask, source, grid, cfg.mask)),
        grid,
        source,
    )


def _finite(image: np.ndarray) -> bool:
    return image.dtype.kind in "iu" or all(np.isfinite(channel).all() for channel in image)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def placed(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Bring (c, d, h, w) to another (d, h, w) about its centre: cut where it is larger, zeros around where it is smaller."""
    out = np.zeros((len(image), *shape), image.dtype)
    into, of = [slice(None)], [slice(None)]
    for have, want in zip(image.shape[1:], shape, strict=True):
        n = min(have, want)
        into.append(slice((want - n) // 2, (want - n) // 2 + n))
        of.append(slice((have - n) // 2, (have - n) // 2 + n))
    out[tuple(into)] = image[tuple(of)]
    return out


class Sink:
    """Volumes, one after the other; what they have in common, whatever is written of them."""

    def __init__(
        self, listing: Listing, cfg: VolumeConfig, work: Path, stack: ExitStack, door: Door
    ) -> None:
        self.listing, self.cfg, self.work, self.door = listing, cfg, work, door
        self.stack = stack
        self.channels = 0
        self.shapes: list[tuple[int, ...]] = []
        self.spacings: list[tuple[float, ...]] = []
        self.codes: list[str] = []

    def parts(self, seen: Signatures) -> Iterator[Part]:
        """Write all cases, and leave their fingerprints in `seen`."""
        for row, name in enumerate(self.listing.ids):
            try:
                raw, case = self.door.admit(partial(self._case, row))
                channels = self.channels or len(case.image)
                if len(case.image) != channels:
                    raise BadImage(f"has {len(case.image)} channels, the first case has {channels}")
            except BadImage as error:
                none = np.empty(0, np.int64)
                yield Part(none, none, none, none, [(name, str(error))])
                continue
            self.channels = channels
            self.shapes.append(case.grid.shape)
            self.spacings.append(case.source.spacing)
            self.codes.append("".join(nib.aff2axcodes(raw.affine)))
            image, labels = self.write(raw, case, seen)
            values = image.astype(np.float64).reshape(channels, -1)
            sums, squares = values.sum(1), np.square(values).sum(1)
            yield Part(np.array([row]), sums[None], squares[None], labels[None], [])
        self.end()

    def write(self, raw: RawCase, case: Case, seen: Signatures) -> tuple[np.ndarray, np.ndarray]:
        """Write a case; return its image as written, (c, d, h, w), and how many voxels have each label of the masks."""
        raise NotImplementedError

    def end(self) -> None:
        """Write what is known once all cases are."""

    def _case(self, row: int) -> tuple[RawCase, Case]:
        assert self.listing.read is not None
        raw = self.listing.read(row)
        return raw, brought(raw, self.cfg, self.door)

    def described(self) -> tuple[list[int], dict[str, Any]]:
        """Return the median shape, channels last, and the geometry for the card."""
        shapes = np.array(self.shapes)
        geometry = _geometry(shapes, np.array(self.spacings), self.codes, self.cfg)
        return [*np.median(shapes, axis=0).astype(int).tolist(), self.channels], geometry


class Whole(Sink):
    """Volumes of one shape, for tasks that label them as a whole: ``images.npy`` uint8 (n, d, h, w, c)."""

    images: ArrayWriter | None = None

    def write(self, raw: RawCase, case: Case, seen: Signatures) -> tuple[np.ndarray, np.ndarray]:
        del raw
        shape = self.cfg.shape
        assert shape is not None
        if any(have > want for have, want in zip(case.grid.shape, shape, strict=True)):
            self.door.noted["cut"] += 1
        image = placed(np.rint(case.image.astype(np.float32)).astype(np.uint8), shape)
        if self.images is None:
            row = (*shape, len(image))
            self.images = self.stack.enter_context(ArrayWriter(self.work / "images.npy", row))
        self.images.append(np.moveaxis(image, 0, -1)[None])
        seen.add_volume(image)
        return image, np.array([image[0].size])

    def described(self) -> tuple[list[int], dict[str, Any]]:
        assert self.cfg.shape is not None
        return [*self.cfg.shape, self.channels], super().described()[1]


class Volumes(Sink):
    """Volumes of any shape, one after the other: ``images.npy`` float16, ``masks.npy`` uint8, ``volumes.csv``."""

    def __init__(
        self, listing: Listing, cfg: VolumeConfig, work: Path, stack: ExitStack, door: Door
    ) -> None:
        super().__init__(listing, cfg, work, stack, door)
        self.images = stack.enter_context(ArrayWriter(work / "images.npy", (), np.float16))
        self.masks = stack.enter_context(ArrayWriter(work / "masks.npy", ()))
        self.table: list[list[object]] = []

    def write(self, raw: RawCase, case: Case, seen: Signatures) -> tuple[np.ndarray, np.ndarray]:
        assert raw.mask is not None, "the task needs masks, so the source gives some"
        assert case.mask is not None
        line = _line(len(self.table), self.images.n, self.masks.n, case, raw)
        self.table.append(line)
        self.images.append(case.image.reshape(-1))
        self.masks.append(case.mask.reshape(-1))
        seen.add_volume(case.image, case.mask)
        of_each = np.bincount(case.mask.reshape(-1), minlength=1 + len(self.listing.foreground))
        return case.image, of_each

    def end(self) -> None:
        write_csv(self.work / "volumes.csv", VOLUME_COLUMNS, self.table)


def _geometry(
    shapes: np.ndarray, spacings: np.ndarray, codes: list[str], cfg: VolumeConfig
) -> dict[str, Any]:
    """Return what the card says of grids: (d, h, w) of the prepared volumes, mm of the files."""

    def spread(values: np.ndarray) -> dict[str, list[float]]:
        return {
            "min": values.min(0).tolist(),
            "median": np.median(values, axis=0).tolist(),
            "max": values.max(0).tolist(),
        }

    return {
        "axes": "superior, anterior, right",
        "spacing": list(cfg.spacing),
        "intensity": cfg.intensity.model_dump(),
        "shapes": spread(shapes),
        "source_spacing": spread(spacings.round(4)),
        "source_orientation": {code: codes.count(code) for code in sorted(set(codes))},
    }


def _line(index: int, at_image: int, at_mask: int, case: Case, raw: RawCase) -> list[object]:
    """Return the row of ``volumes.csv`` of a case, see `edgeward.data.store.Volume`."""

    def matrix(affine: np.ndarray) -> str:
        return " ".join(repr(float(v)) for v in affine[:3].reshape(-1))

    assert raw.mask is not None
    return [
        index, at_image, at_mask, *case.image.shape, *case.grid.spacing, matrix(case.grid.affine),
        " ".join(map(str, raw.mask.shape)), matrix(raw.affine),
    ]  # fmt: skip
