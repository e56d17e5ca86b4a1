"""Geometry of volumes: orientation and spacing from the affine, resampling, and the way back.

Affines map indices to millimetres in RAS+ (to the right, anterior, superior), as nibabel's do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from nibabel import orientations
from scipy import ndimage

from edgeward.data.door import WHERE, BadImage
from edgeward.data.store import Volume

_SAME = 1e-3  # relative difference of spacings below which they are the same
_APART = 0.05  # of a voxel, by which grids of image and mask may differ


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an array (.., d, h, w) lie, axes to superior, anterior, right.

    Attributes
    ----------
    shape : (d, h, w).
    spacing : (d, h, w), mm.
    affine : float64 (4, 4), indices (w, h, d, 1) -> mm.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    affine: np.ndarray


def check_affine(affine: np.ndarray, spacing: tuple[float, float] | None = None) -> None:
    """Refuse an affine that places voxels nowhere, or on a grid that is not rectangular.

    Parameters
    ----------
    spacing : least and largest distance of neighbours that is believed, mm.

    Raises
    ------
    BadImage
        If it is not finite, an axis has no length, or axes are not at right angles (within 0.6
        degrees).
    """
    if not np.isfinite(affine).all():
        raise BadImage("its affine is not finite")
    axes = affine[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if (lengths < 1e-6).any():
        raise BadImage(f"its affine gives a spacing of {_mm(lengths)}")
    if spacing is not None and (lengths.min() < spacing[0] or lengths.max() > spacing[1]):
        raise BadImage(
            f"voxels of {_mm(lengths)}: data.checks.spacing {WHERE} believes {spacing[0]:g} to {spacing[1]:g} mm"
        )
    cosines = (axes / lengths).T @ (axes / lengths) - np.eye(3)
    if np.abs(cosines).max() > 1e-2:
        raise BadImage("its axes are not at right angles (sheared affine, gantry tilt)")


def check_same_grid(
    affine: np.ndarray, shape: tuple[int, ...], mask_affine: np.ndarray, mask_shape: tuple[int, ...]
) -> None:
    """Refuse a mask of another shape or place than its image, corners compared.

    Raises
    ------
    BadImage
        If shapes differ, or a corner voxel lies more than 0.05 of a voxel apart.
    """
    if mask_shape != shape:
        raise BadImage(f"its mask has shape {mask_shape} and the image {shape}")
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    corners[:, :3] *= np.array(shape) - 1
    apart = np.linalg.norm(corners @ (affine - mask_affine).T, axis=1).max()
    if apart > _APART * np.linalg.norm(affine[:3, :3], axis=0).min():
        raise BadImage(
            f"its mask has another affine than the image: corners lie {apart:.3g} mm apart"
        )


def oriented(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, Grid]:
    """Turn an array (.., i, j, k) so that its axes run to superior, anterior, right.

    Axes are permuted and flipped to the nearest ones (an oblique volume stays oblique); no voxel
    changes its value or its place.

    Returns
    -------
    array : (.., d, h, w), a view.
    grid : where its voxels lie.
    """
    to_ras = orientations.io_orientation(affine)
    lead = array.ndim - 3
    turned = orientations.apply_orientation(
        np.moveaxis(array, range(lead), range(-lead, 0)), to_ras
    )
    turned = np.moveaxis(turned, range(-lead, 0), range(lead)) if lead else turned
    placed = affine @ orientations.inv_ornt_aff(to_ras, array.shape[lead:])
    x, y, z = np.linalg.norm(placed[:3, :3], axis=0)
    turned = np.swapaxes(turned, -1, -3)
    d, h, w = turned.shape[-3:]
    return turned, Grid((d, h, w), (float(z), float(y), float(x)), placed)


def resampled_grid(grid: Grid, spacing: tuple[float, float, float]) -> Grid:
    """Return the grid of another spacing over the same extent, to the nearest whole voxel."""
    ratio = np.array(spacing) / np.array(grid.spacing)
    ratio[np.abs(ratio - 1) < _SAME] = 1
    shape = np.maximum(np.rint(np.array(grid.shape) / ratio), 1).astype(int)
    step = np.eye(4)
    step[:3, :3] = np.diag(ratio[::-1])
    step[:3, 3] = (ratio[::-1] - 1) / 2  # the outer faces of the first voxels coincide
    d, h, w = (int(n) for n in shape)
    at = np.where(ratio == 1, grid.spacing, spacing)
    return Grid((d, h, w), (float(at[0]), float(at[1]), float(at[2])), grid.affine @ step)


def resample(array: np.ndarray, old: Grid, new: Grid, order: Literal[0, 1]) -> np.ndarray:
    """Resample (d, h, w) onto a grid made by `resampled_grid`.

    Parameters
    ----------
    order : 0 nearest, 1 linear; beyond the outer voxels' centres their values hold.

    Returns
    -------
    An array of the new shape, of the same dtype.
    """
    if old.shape == new.shape and np.allclose(old.spacing, new.spacing, rtol=_SAME):
        return array
    ratio = np.array(new.spacing) / np.array(old.spacing)
    return ndimage.affine_transform(
        array,
        ratio,
        offset=(ratio - 1) / 2,
        output_shape=new.shape,
        order=order,
        mode="nearest",
        prefilter=False,
    )


def resample_mask(
    mask: np.ndarray, old: Grid, new: Grid, how: Literal["nearest", "linear"]
) -> np.ndarray:
    """Resample label indices, uint8 (d, h, w).

    linear interpolates each label's membership and takes the largest (a tie goes to the lower
    label), which keeps outlines smooth; nearest keeps structures of one voxel more often.
    """
    if how == "nearest" or (old.shape == new.shape and old.spacing == new.spacing):
        return resample(mask, old, new, 0)
    best = np.zeros(new.shape, np.uint8)
    height = np.full(new.shape, -1.0, np.float32)
    for label in np.unique(mask):
        member = resample((mask == label).astype(np.float32), old, new, 1)
        ahead = member > height + 1e-6
        best[ahead] = label
        height[ahead] = member[ahead]
    return best


def to_source(labels: np.ndarray, volume: Volume) -> np.ndarray:
    """Bring a label map of the prepared grid back onto the grid of the file it came from.

    Parameters
    ----------
    labels : uint8 (d, h, w), on the prepared grid of `volume`.

    Returns
    -------
    uint8 (i, j, k), by the nearest prepared voxel; beside `volume.source_affine` it makes a file.
    """
    if labels.shape != volume.shape[1:]:
        raise ValueError(f"label map {labels.shape}, prepared volume {volume.shape[1:]}")
    there = np.linalg.inv(volume.affine) @ volume.source_affine
    return ndimage.affine_transform(
        np.swapaxes(labels, 0, 2),
        there[:3, :3],
        offset=there[:3, 3],
        output_shape=volume.source_shape,
        order=0,
        mode="nearest",
        prefilter=False,
    )


def _mm(lengths: np.ndarray) -> str:
    return " x ".join(f"{x:.4g}" for x in lengths) + " mm"
