"""Calibration images: which, in which order, and how to name them afterwards."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch

from edgeward.compression.distillation import soft_targets
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

    Parameters
    ----------
    read : see `edgeward.tasks.inputs.reader`.
    """
    with torch.no_grad():
        for images in _batches(read, indices, batch_size):
            model(images)
    logger.info("calibrated on %d images", len(indices))


def divergence(
    model: Callable[[torch.Tensor], torch.Tensor],
    reference: Callable[[torch.Tensor], torch.Tensor],
    read: Read,
    indices: np.ndarray,
    batch_size: int,
    *,
    exclusive: bool,
) -> float:
    """Return how far a model's probabilities are from a reference's, in nats: the mean over images (and pixels) of the Kullback-Leibler
    divergence of `edgeward.compression.distillation.soft_targets`; infinite where a logit is no finite number.

    Parameters
    ----------
    read : see `edgeward.tasks.inputs.reader`. exclusive : whether one label is decided for.
    """
    total = 0.0
    with torch.no_grad():
        for images in _batches(read, indices, batch_size):
            mine, theirs = model(images), reference(images)
            total += len(images) * float(soft_targets(mine, theirs, 1.0, exclusive=exclusive))
    return total / len(indices) if math.isfinite(total) else math.inf


def _batches(read: Read, indices: np.ndarray, batch_size: int) -> Iterator[torch.Tensor]:
    """Yield the images; every batch has at least two: a last one alone joins the batch before it."""
    starts = list(range(0, len(indices), batch_size))
    if len(starts) > 1 and len(indices) - starts[-1] == 1:
        starts.pop()
    for start, end in zip(starts, [*starts[1:], len(indices)], strict=True):
        yield batch(read, indices[start:end])


def batch(read: Read, indices: np.ndarray) -> torch.Tensor:
    """Return images float32 (b, c, *spatial) in the order in which they lie on disk."""
    return torch.from_numpy(read(np.sort(indices)))


def fingerprint(read: Read, indices: np.ndarray) -> str:
    """Return the SHA-256 of the inputs (float32), in ascending order of index."""
    digest = hashlib.sha256()
    for index in np.sort(indices):
        digest.update(np.ascontiguousarray(read(np.array([index]))).tobytes())
    return digest.hexdigest()
