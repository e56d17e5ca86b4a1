"""Calibration images: which, in which order, and how to name them afterwards."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from edgeward.core.errors import UserError
from edgeward.data.store import Prepared
from edgeward.tasks.inputs import Read

logger = logging.getLogger(__name__)


def choose(data: Prepared, images: int | Literal["all"], seed: int) -> np.ndarray:
    """Return indices of calibration images in seeded order, int64 (n,).

    Raises
    ------
    UserError
        If the calibration set is empty or smaller than `images`.
    """
    n = len(data.calibration) if images == "all" else images
    if not 0 < n <= len(data.calibration):
        raise UserError(
            f"compress.steps[..].calibration.images is {images}, but the calibration set of {data.root} "
            f"has {len(data.calibration)} images: lower it, or raise the set's size in config/data/."
        )
    return np.random.default_rng(seed).permutation(data.calibration)[:n]


def feed(
    model: Callable[[torch.Tensor], torch.Tensor],
    read: Read,
    indices: np.ndarray,
    batch_size: int,
) -> None:
    """Run the images through `model`, whose observers take notes.

    Every batch has at least two images: a last one alone joins the batch before it.

    Parameters
    ----------
    read : see `edgeward.tasks.inputs.reader`.
    """
    starts = list(range(0, len(indices), batch_size))
    if len(starts) > 1 and len(indices) - starts[-1] == 1:
        starts.pop()
    with torch.no_grad():
        for start, end in zip(starts, [*starts[1:], len(indices)], strict=True):
            # Sorted within the batch: the images lie on disk in this order.
            model(torch.from_numpy(read(np.sort(indices[start:end]))))
    logger.info("calibrated on %d images", len(indices))


def fingerprint(read: Read, indices: np.ndarray) -> str:
    """Return the SHA-256 of the inputs (float32), in ascending order of index."""
    digest = hashlib.sha256()
    for index in np.sort(indices):
        digest.update(np.ascontiguousarray(read(np.array([index]))).tobytes())
    return digest.hexdigest()
