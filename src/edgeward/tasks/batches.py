"""Which images form which batch, and reading them: a function of seed, epoch and step alone.

Nothing here keeps state between batches, so training that resumes at an epoch sees exactly what an
uninterrupted run sees. Images are read from the memory map one batch at a time.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from edgeward.core.errors import UserError
from edgeward.data.store import Prepared

Sampling = Literal["natural", "class_balanced"]


def stream(*key: int) -> int:
    """Return a 63-bit seed for the random numbers of one purpose, e.g. (seed, epoch, step)."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def epoch_batches(
    data: Prepared,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    sampling: Sampling = "natural",
    passes: int = 1,
) -> list[np.ndarray]:
    """Return the image indices of each training batch of an epoch.

    All batches have `batch_size` images: batch norms want equal ones, and which few images are left
    out changes every epoch. A training set smaller than a batch is one batch.

    Parameters
    ----------
    sampling : "natural" draws without replacement; "class_balanced" draws with replacement, every
        class equally often.
    passes : how often an epoch goes through the images.
    """
    indices = data.indices("train")
    if len(indices) < 2:
        raise UserError(f"{data.root}: training needs at least 2 images, has {len(indices)}.")
    rng = np.random.default_rng(np.random.SeedSequence([seed, epoch]))
    if sampling == "natural":
        order = np.concatenate([rng.permutation(indices) for _ in range(passes)])
    else:
        labels = data.labels[indices]
        counts = np.bincount(labels, minlength=len(data.classes))
        share = 1 / counts[labels] / np.count_nonzero(counts)
        order = rng.choice(indices, size=passes * len(indices), p=share)
    steps = max(1, len(order) // batch_size)
    return [order[i * batch_size : (i + 1) * batch_size] for i in range(steps)]


def split_batches(data: Prepared, split: Literal["train", "val"], size: int) -> list[np.ndarray]:
    """Return the indices of a split in order, at most `size` a batch."""
    indices = data.indices(split)
    if len(indices) == 0:
        raise UserError(
            f"{data.root}: split '{split}' is empty; change the split in the data config."
        )
    return [indices[i : i + size] for i in range(0, len(indices), size)]


def read(data: Prepared, indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Read one batch: images uint8 (b, c, *spatial), in the memory layout (b, *spatial, c), and `Prepared.truth` of them."""
    order = np.argsort(indices, kind="stable")  # ascending positions read the map forwards
    images = np.empty((len(indices), *data.images.shape[1:]), dtype=np.uint8)
    images[order] = data.images[indices[order]]
    return torch.from_numpy(images).movedim(-1, 1), torch.from_numpy(data.truth[indices])


def to_float(images: torch.Tensor, memory_format: torch.memory_format) -> torch.Tensor:
    """Return images (b, c, *spatial) as float32 in the given layout."""
    return images.float().contiguous(memory_format=memory_format)
