"""Patches of volumes: where they lie is a function of the key alone, and many hold foreground."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeward.core.windows import padding
from edgeward.data.store import Prepared
from edgeward.tasks.config import PatchConfig


def corner(
    mask: np.ndarray, size: Sequence[int], rng: np.random.Generator, *, foreground: bool
) -> list[int]:
    """Return where a patch begins, per axis.

    Parameters
    ----------
    mask : uint8, shape (*spatial), label indices; 0 is background.
    size : of the patch.
    foreground : whether it must hold a voxel of a class, drawn first among the classes that
        are there, so that a small lesion is seen as often as the organ around it, then among its
        voxels. The patch is uniform among those that hold the voxel. Without any foreground, as if false.
    """
    room = [max(length - side, 0) for length, side in zip(mask.shape, size, strict=True)]
    low, high = [0] * mask.ndim, room
    present = np.flatnonzero(np.bincount(mask.ravel())[1:]) + 1
    if foreground and len(present):
        voxels = np.flatnonzero(mask == rng.choice(present))
        voxel = np.unravel_index(rng.choice(voxels), mask.shape)
        low = [max(0, int(v) - side + 1) for v, side in zip(voxel, size, strict=True)]
        high = [min(r, int(v)) for v, r in zip(voxel, room, strict=True)]
    return [int(rng.integers(a, b + 1)) for a, b in zip(low, high, strict=True)]


def crop(array: np.ndarray, at: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """Cut `size` voxels from the last axes, padded with zeros where the array is smaller."""
    lead = array.ndim - len(size)
    box = [slice(a, a + side) for a, side in zip(at, size, strict=True)]
    found: np.ndarray = array[(..., *box)]  # type: ignore[arg-type]
    pads = padding(found.shape[lead:], size)
    return np.pad(found, [(0, 0)] * lead + pads) if any(map(any, pads)) else found


def draw(
    data: Prepared, indices: np.ndarray, patches: PatchConfig, key: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return one random patch of each case.

    Returns
    -------
    images : float32 (b, c, *size), 0-255. masks : uint8 (b, *size).
    """
    rng = np.random.default_rng(key)
    images, masks = [], []
    for index in indices:
        image, mask = data.view(int(index))
        at = corner(mask, patches.size, rng, foreground=rng.random() < patches.foreground)
        images.append(crop(image, at, patches.size).astype(np.float32))
        masks.append(crop(mask, at, patches.size))
    return np.stack(images), np.stack(masks)
