"""NIfTI files to arrays, with a named reason for each that cannot be used."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from edgeward.data.labels import label_indices
from edgeward.data.listing import BadImage, RawCase
from edgeward.data.volumes.grid import check_affine, check_same_grid

SUFFIXES = (".nii.gz", ".nii")
MAX_VOXELS = 1 << 30


def stem(path: Path) -> str | None:
    """Return a NIfTI file's name without suffix, or None for any other file."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return None


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a NIfTI file.

    Returns
    -------
    values : (c, i, j, k), scaled as the header says; a fourth axis of the file is the channel.
    affine : float64 (4, 4), mm, RAS+.

    Raises
    ------
    BadImage
        If the file is no intact NIfTI of 3 or 4 axes with finite real values, or its header
        contradicts itself.
    """
    try:
        image = nib.load(path)
        if not isinstance(image, nib.Nifti1Image | nib.Nifti2Image):
            raise BadImage("is no NIfTI file")
        shape = image.shape
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) not in (3, 4) or not all(shape):
            raise BadImage(f"has shape {image.shape}; a volume has 3 axes, 4 with channels")
        if int(np.prod(shape, dtype=object)) > MAX_VOXELS:
            raise BadImage(f"has shape {shape}: more than {MAX_VOXELS} voxels")
        check_affine(image.affine)
        _check_zooms(image)
        values = np.asarray(image.dataobj).reshape(shape)
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error) as error:
        raise BadImage(f"cannot be read as NIfTI ({error})") from error
    if values.dtype.kind not in "iuf":
        raise BadImage(f"holds {values.dtype}, real numbers are needed")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadImage("holds values that are not finite (NaN or infinite)")
    channels = values[None] if values.ndim == 3 else np.moveaxis(values, -1, 0)
    return channels, np.asarray(image.affine, np.float64)


def _check_zooms(image: nib.Nifti1Image) -> None:
    """Refuse a header whose pixdim and affine state different spacings."""
    zooms = np.array(image.header.get_zooms()[:3], float)
    axes = np.linalg.norm(image.affine[:3, :3], axis=0)
    if not np.allclose(zooms, axes, rtol=0.01):
        raise BadImage(
            f"states two spacings: {zooms.round(4).tolist()} mm in pixdim and "
            f"{axes.round(4).tolist()} mm in its affine"
        )


def read_mask(
    path: Path, shape: tuple[int, ...], affine: np.ndarray, index: Mapping[int, int], where: str
) -> np.ndarray:
    """Read the mask of an image of shape (i, j, k) and `affine`: uint8 label indices (i, j, k)."""
    try:
        values, mask_affine = read(path)
    except BadImage as error:
        raise BadImage(f"its mask {path.name} {error}") from error
    if len(values) != 1:
        raise BadImage(f"its mask has {len(values)} channels, one is needed")
    check_same_grid(affine, shape, mask_affine, values.shape[1:])
    return label_indices(values[0], index, where)


def read_pair(image: Path, mask: Path, index: Mapping[int, int], where: str) -> RawCase:
    """Read an image and its mask, see `read` and `read_mask`."""
    values, affine = read(image)
    return RawCase(values, read_mask(mask, values.shape[1:], affine, index, where), affine)
