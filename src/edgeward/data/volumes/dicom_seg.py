"""DICOM segmentations (binary DICOM-SEG, PS3.3 A.51) on the grid of their image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from edgeward.data.dicom_file import kind_of
from edgeward.data.door import BadImage, Door
from edgeward.data.volumes.dicom import functional, load, planes


def read_segmentation(
    path: Path, shape: tuple[int, ...], affine: np.ndarray, door: Door
) -> np.ndarray:
    """Read a DICOM-SEG whose frames lie on the slices of an image.

    Parameters
    ----------
    shape, affine : (i, j, k) and geometry of the image, as `read_series` gives them.

    Returns
    -------
    int64 (i, j, k): the segment number of each voxel, 0 where there is none.

    Raises
    ------
    BadImage
        If it is no binary DICOM-SEG, lies on another grid, or segments overlap.
    """
    data = load(path, door)
    if kind_of(data) != "Segmentation Storage":
        raise BadImage(f"its mask {path.name} is a {kind_of(data)}, no DICOM-SEG")
    if data.get("SegmentationType") != "BINARY":
        raise BadImage(f"its mask {path.name} is {data.get('SegmentationType')}, BINARY is read")
    frames = list(planes(path.name, data, door))
    numbers = [_segment(frame, path) for frame in data.PerFrameFunctionalGroupsSequence]
    to_index = np.linalg.inv(affine) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    out = np.zeros(shape, np.int64)
    for number, frame in zip(numbers, frames, strict=True):
        step = np.linalg.inv(affine[:3, :3]) @ np.diag([-1.0, -1.0, 1.0])
        axes = step @ np.stack([frame.rows * frame.spacing[1], frame.columns * frame.spacing[0]], 1)
        at = to_index @ np.array([*frame.position, 1.0])
        k = round(float(at[2]))
        same = (
            np.abs(axes - np.eye(3)[:, :2]).max() < 0.01
            and np.abs(at[:3] - [0, 0, k]).max() < 0.05
            and 0 <= k < shape[2]
            and frame.pixels.shape == (shape[1], shape[0])
        )
        if not same:
            raise BadImage(f"its mask {frame.file} lies on another grid than the image")
        inside = frame.pixels.T > 0
        taken = out[:, :, k]
        if (taken[inside] > 0).any():
            raise BadImage(f"its mask {frame.file} overlaps another segment")
        taken[inside] = number
    return out


def _segment(frame: Dataset, path: Path) -> int:
    identity = functional(frame, "SegmentIdentificationSequence")
    if identity is None or "ReferencedSegmentNumber" not in identity:
        raise BadImage(f"its mask {path.name} has a frame without segment number")
    return int(identity.ReferencedSegmentNumber)
