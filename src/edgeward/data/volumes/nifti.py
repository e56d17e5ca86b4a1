"""NIfTI files to arrays, with a named reason for each that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np

from edgeward.data.door import BadImage, Door, said
from edgeward.data.labels import label_indices
from edgeward.data.listing import RawCase
from edgeward.data.volumes.grid import check_affine, check_same_grid

SUFFIXES = (".nii.gz", ".nii")
_HEADERS = {348: nib.Nifti1Image, 540: nib.Nifti2Image}  # by its length, the first number of a file


def stem(path: Path) -> str | None:
    """Return a NIfTI file's name without suffix, or None for any other file."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return None


def read(path: Path, door: Door) -> tuple[np.ndarray, np.ndarray]:
    """Read a NIfTI file.

    Returns
    -------
    values : (c, i, j, k), scaled as the header says; a fourth axis of the file is the channel.
    affine : float64 (4, 4), mm, RAS+.

    Raises
    ------
    BadImage
        If the file is no intact NIfTI of 3 or 4 axes with finite real values, its header
        contradicts itself, or it holds more than `data.limits` allows.
    """
    try:
        with door.unpacked(path) as stream:
            found = _read(stream, door)
            while stream.read(1 << 20):  # a gzip states its checksum at the end
                pass
            return found
    except BadImage:
        raise
    except Exception as error:  # a damaged header makes the reader raise what it likes
        raise BadImage(f"cannot be read as NIfTI ({said(error)})") from error


def _opened(stream: IO[bytes]) -> nib.Nifti1Image:
    start = stream.read(4)
    stream.seek(0)
    for order in ("little", "big"):
        if kind := _HEADERS.get(int.from_bytes(start, order)):
            holder = nib.FileHolder(fileobj=stream)  # type: ignore[arg-type]  # it reads and seeks
            return kind.from_file_map({"header": holder, "image": holder}, mmap=False)
    raise BadImage("is no NIfTI file")


def _read(stream: IO[bytes], door: Door) -> tuple[np.ndarray, np.ndarray]:
    image = _opened(stream)
    stored: Any = image.dataobj
    offset = float(stored.offset)
    door.check_bytes(int(offset), "voxels that begin at an offset")
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise BadImage(f"has shape {image.shape}; a volume has 3 axes, 4 with channels")
    n = int(np.prod(shape, dtype=object))
    door.check_voxels(n, f" of shape {shape}")
    scaled = (stored.slope, stored.inter) != (1, 0)
    door.check_bytes(n * (8 if scaled else stored.dtype.itemsize), "voxels")
    check_affine(image.affine, door.checks.spacing)
    _check_zooms(image)
    values = np.asarray(image.dataobj).reshape(shape)
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
    path: Path,
    shape: tuple[int, ...],
    affine: np.ndarray,
    index: Mapping[int, int],
    where: str,
    door: Door,
) -> np.ndarray:
    """Read the mask of an image of shape (i, j, k) and `affine`: uint8 label indices (i, j, k)."""
    try:
        values, mask_affine = read(path, door)
    except BadImage as error:
        raise BadImage(f"its mask {path.name} {error}") from error
    if len(values) != 1:
        raise BadImage(f"its mask has {len(values)} channels, one is needed")
    check_same_grid(affine, shape, mask_affine, values.shape[1:])
    return label_indices(values[0], index, where)


def read_pair(image: Path, mask: Path, index: Mapping[int, int], where: str, door: Door) -> RawCase:
    """Read an image and its mask, see `read` and `read_mask`."""
    values, affine = read(image, door)
    return RawCase(values, read_mask(mask, values.shape[1:], affine, index, where, door), affine)
