"""Model inputs from prepared data: whole images, or one patch of each volume."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeward.data.store import Prepared, to_input
from edgeward.records.recipe import ModelMeta
from edgeward.tasks.config import PatchConfig
from edgeward.tasks.patches import draw

Read = Callable[[np.ndarray], np.ndarray]


def patches_of(meta: ModelMeta) -> PatchConfig | None:
    """Return how the volumes were cut that a model was trained on."""
    return None if meta.patches is None else PatchConfig.model_validate(meta.patches)


def reader(data: Prepared, meta: ModelMeta, seed: int) -> Read:
    """Return a function from case indices to inputs, float32 (b, c, \\*spatial), 0-255.

    Parameters
    ----------
    meta : as in ``model.pt``. Volumes are cut as in training: one patch of each case, at a place
        that depends on the case and `seed` alone.
    """
    patches = patches_of(meta)
    if patches is None:
        return lambda indices: to_input(data.images[indices])

    def read(indices: np.ndarray) -> np.ndarray:
        keys = [(seed << 32) + int(index) for index in indices]
        cut = [draw(data, indices[i : i + 1], patches, key)[0] for i, key in enumerate(keys)]
        return np.concatenate(cut)

    return read
