"""Model inputs from prepared data: whole images, or one patch of each volume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeward.data.store import Prepared, to_input
from edgeward.tasks.config import PatchConfig
from edgeward.tasks.patches import draw

Read = Callable[[np.ndarray], np.ndarray]


def reader(data: Prepared, meta: dict[str, Any], seed: int) -> Read:
    """Return a function from case indices to inputs, float32 (b, c, \\*spatial), 0-255.

    Parameters
    ----------
    meta : as in ``model.pt``. Volumes are cut as in training: one patch of each case, at a place
        that depends on the case and `seed` alone.
    """
    if meta["patches"] is None:
        return lambda indices: to_input(data.images[indices])
    patches = PatchConfig.model_validate(meta["patches"])

    def read(indices: np.ndarray) -> np.ndarray:
        keys = [(seed << 32) + int(index) for index in indices]
        cut = [draw(data, indices[i : i + 1], patches, key)[0] for i, key in enumerate(keys)]
        return np.concatenate(cut)

    return read
