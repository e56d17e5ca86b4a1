"""Distances between the surfaces of two label masks, and what lies near a boundary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class Surfaces:
    """Distances from every surface voxel of one mask to the surface of the other, in mm.

    The surface of a mask are its voxels with a face on another label or on the image's rim. Each
    counts once, whatever its area.
    """

    there: np.ndarray
    back: np.ndarray

    def hausdorff(self, percent: float) -> float:
        """Return the larger of the two directed percentiles (Huttenlocher et al., PAMI 15 (1993) 850)."""
        return float(max(np.percentile(self.there, percent), np.percentile(self.back, percent)))

    def dice(self, tolerance: float) -> float:
        """Return the share of both surfaces within the tolerance of each other.

        Nikolov et al., arXiv 1809.04430 (2018), with surface voxels instead of surface elements.
        """
        met = (self.there <= tolerance).sum() + (self.back <= tolerance).sum()
        return float(met / (len(self.there) + len(self.back)))


def surface(mask: np.ndarray) -> np.ndarray:
    """Return the surface voxels of a mask, bool, of the same shape."""
    inner: np.ndarray = ndimage.binary_erosion(mask)
    return mask & ~inner


def surfaces(truth: np.ndarray, said: np.ndarray, spacing: Sequence[float]) -> Surfaces:
    """Measure two masks, neither of them empty.

    Parameters
    ----------
    truth, said : bool, shape (*spatial).
    spacing : distance of neighbours along each axis, mm.
    """
    box = ndimage.find_objects((truth | said).astype(np.uint8))[0]
    a, b = surface(truth[box]), surface(said[box])
    return Surfaces(
        there=ndimage.distance_transform_edt(~b, sampling=spacing)[a],
        back=ndimage.distance_transform_edt(~a, sampling=spacing)[b],
    )


def near_boundary(mask: np.ndarray, width: float, spacing: Sequence[float]) -> np.ndarray:
    """Return which voxels lie at most `width` mm from a voxel of another label, bool.

    Parameters
    ----------
    mask : int, shape (*spatial), label indices.
    """
    labels = np.flatnonzero(np.bincount(mask.ravel()))
    if len(labels) < 2:
        return np.zeros(mask.shape, dtype=bool)
    far = np.zeros(mask.shape)
    for label in labels:  # each voxel belongs to one label, so the distances do not overlap
        far += ndimage.distance_transform_edt(mask == label, sampling=spacing)
    near: np.ndarray = far <= width
    return near
