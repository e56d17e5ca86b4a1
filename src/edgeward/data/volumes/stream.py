"""The one pass over the volumes of a source: one grid, one scale, flat arrays; one case at a time."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from edgeward.core.errors import UserError
from edgeward.data.audit import Signatures
from edgeward.data.config import DataConfig
from edgeward.data.pixels import BadImage
from edgeward.data.store import VOLUME_COLUMNS
from edgeward.data.stream import Read, named
from edgeward.data.volumes.config import VolumeConfig
from edgeward.data.volumes.grid import (
    Grid,
    check_affine,
    oriented,
    resample,
    resample_mask,
    resampled_grid,
)
from edgeward.data.volumes.intensity import scaled
from edgeward.data.volumes.listing import RawCase, VolumeListing
from edgeward.data.writer import ArrayWriter, write_csv

log = logging.getLogger(__name__)


@dataclass
class Case:
    """A volume as it is written: image float16 (c, d, h, w) 0-255, mask uint8 (d, h, w)."""

    image: np.ndarray
    mask: np.ndarray
    grid: Grid
    source: Grid


def brought(raw: RawCase, cfg: VolumeConfig) -> Case:
    """Turn, resample and scale a case.

    Raises
    ------
    BadImage
        If its affine is unusable, it is smaller than `min_side`, or has no contrast.
    """
    check_affine(raw.affine)
    image, source = oriented(raw.image, raw.affine)
    mask, _ = oriented(raw.mask, raw.affine)
    grid = resampled_grid(source, cfg.spacing)
    if min(grid.shape) < cfg.min_side:
        raise BadImage(
            f"{'x'.join(map(str, grid.shape))} voxels at data.volume.spacing: every side must have "
            f"at least {cfg.min_side} (min_side)"
        )
    channels = [resample(c.astype(np.float32), source, grid, 1) for c in image]
    return Case(
        scaled(np.stack(channels), cfg),
        np.ascontiguousarray(resample_mask(mask, source, grid, cfg.mask)),
        grid,
        source,
    )


def stream_volumes(listing: VolumeListing, cfg: DataConfig, work: Path) -> Read:
    """Write all readable volumes, masks and ``volumes.csv``, and take their sums and fingerprints."""
    assert cfg.volume is not None
    rows: list[int] = []
    table: list[list[object]] = []
    sums, squares, pixels = [], [], []
    seen, invalid = Signatures(), list(listing.invalid)
    shapes, spacings, codes = [], [], []
    channels = 0
    said = time.monotonic()
    with ExitStack() as stack:
        images = stack.enter_context(ArrayWriter(work / "images.npy", (), np.float16))
        masks = stack.enter_context(ArrayWriter(work / "masks.npy", ()))
        for row, name in enumerate(listing.ids):
            try:
                raw = listing.read(row)
                case = brought(raw, cfg.volume)
                channels = channels or len(case.image)
                if len(case.image) != channels:
                    raise BadImage(f"has {len(case.image)} channels, the first case has {channels}")
            except BadImage as error:
                invalid.append((name, str(error)))
                continue
            table.append(_line(len(rows), images.n, masks.n, case, raw))
            images.append(case.image.reshape(-1))
            masks.append(case.mask.reshape(-1))
            rows.append(row)
            shapes.append(case.grid.shape)
            spacings.append(case.source.spacing)
            codes.append("".join(nib.aff2axcodes(raw.affine)))
            seen.add_volume(case.image)
            values = case.image.astype(np.float64).reshape(channels, -1)
            sums.append(values.sum(1))
            squares.append(np.square(values).sum(1))
            labels = len(listing.foreground) + 1
            pixels.append(np.bincount(case.mask.reshape(-1), minlength=labels))
            if time.monotonic() - said > 5:
                said = time.monotonic()
                log.info("%d of %d volumes", row + 1, len(listing.ids))
    if not rows:
        raise UserError(
            f"no usable volume in {listing.source}{named(invalid)} Change data.source (config/data/)."
        )
    write_csv(work / "volumes.csv", VOLUME_COLUMNS, table)
    return Read(
        np.array(rows),
        seen,
        np.stack(sums),
        np.stack(squares),
        np.stack(pixels),
        invalid,
        [*np.median(shapes, axis=0).astype(int).tolist(), channels],
        _geometry(np.array(shapes), np.array(spacings), codes, cfg.volume),
    )


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

    return [
        index, at_image, at_mask, *case.image.shape, *case.grid.spacing, matrix(case.grid.affine),
        " ".join(map(str, raw.mask.shape)), matrix(raw.affine),
    ]  # fmt: skip
