"""Inference on images that are larger than what the model takes: overlapping windows, blended.

Every window's output counts with a Gaussian of its distance from the window's centre, since a network
sees least context at the rim: the scheme of nnU-Net (Isensee et al., Nat. Methods 18 (2021) 203-211) and
of MONAI, with their standard deviation of an eighth of the window. numpy only, so that training and
the assessment of the shipped file place and weigh windows alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

Forward = Callable[[np.ndarray], np.ndarray]
_SIGMA = 0.125  # of the window's side
_LEAST_WEIGHT = 1e-3


def starts(length: int, size: int, overlap: float) -> list[int]:
    """Return where windows begin along an axis.

    Parameters
    ----------
    length, size : of the axis and of the window, voxels; ``size <= length``.
    overlap : share of a window that the next one covers again, 0 to below 1.

    Returns
    -------
    Ascending from 0 to ``length - size``; the last step may be shorter than the others.
    """
    step = max(1, int(size * (1 - overlap)))
    count = -((size - length) // step) + 1
    return [min(k * step, length - size) for k in range(count)]


def gaussian(size: Sequence[int]) -> np.ndarray:
    """Return the weight of each voxel of a window, float32 of shape `size`, about 1 at the centre."""
    weight = np.ones((), dtype=np.float32)
    for side in size:
        x = np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)
        weight = weight[..., None] * np.exp(-(x**2) / np.float32(2 * (_SIGMA * side) ** 2))
    return np.maximum(weight, np.float32(_LEAST_WEIGHT))


def padding(shape: Sequence[int], size: Sequence[int]) -> list[tuple[int, int]]:
    """Return what each axis lacks to hold one window, half before it and half behind."""
    lacks = [max(side - length, 0) for length, side in zip(shape, size, strict=True)]
    return [(lack // 2, lack - lack // 2) for lack in lacks]


def sliding(
    forward: Forward, image: np.ndarray, size: Sequence[int], overlap: float, batch: int
) -> np.ndarray:
    """Return the logits of one image from those of windows.

    Parameters
    ----------
    forward : float32 (b, c, *size) -> float32 (b, n_labels, *size).
    image : float32 (c, *spatial), of any size; padded with zeros where it is smaller than a window.
    size : of the window, one number per spatial axis.
    overlap : see `starts`.
    batch : windows per call of `forward`, at most.

    Returns
    -------
    float32, shape (n_labels, *spatial).
    """
    spatial = image.shape[1:]
    if spatial == tuple(size):
        return forward(image[None])[0]
    pads = padding(spatial, size)
    padded = np.pad(image, [(0, 0), *pads])
    axes = [
        starts(length, side, overlap) for length, side in zip(padded.shape[1:], size, strict=True)
    ]
    boxes = [
        tuple(slice(at, at + side) for at, side in zip(corner, size, strict=True))
        for corner in product(*axes)
    ]
    weight = gaussian(size)
    total = np.zeros(padded.shape[1:], dtype=np.float32)
    summed: np.ndarray | None = None
    for first in range(0, len(boxes), batch):
        some = boxes[first : first + batch]
        logits = forward(np.stack([padded[:, *box] for box in some]))
        if summed is None:
            summed = np.zeros((logits.shape[1], *total.shape), dtype=np.float32)
        for box, out in zip(some, logits, strict=True):
            summed[:, *box] += out * weight
            total[box] += weight
    assert summed is not None
    summed /= total
    inner = tuple(slice(low, low + length) for (low, _), length in zip(pads, spatial, strict=True))
    return summed[:, *inner]
