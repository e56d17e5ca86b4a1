"""Inputs shared by the tests of the safety room."""

from __future__ import annotations

import numpy as np
from shipped import shipped

from edgeward.safety.config import DenseConfig, SafetyConfig


def config(**changes: object) -> SafetyConfig:
    """The shipped configuration with fewer resamples, and `changes`."""
    values = shipped("safety", "default") | {"resamples": 400} | changes
    del values["segmentation"]
    return SafetyConfig(**values)


def dense_config(**changes: object) -> DenseConfig:
    """The same for segmentation; `changes` are of its own section."""
    values = shipped("safety", "default") | {"resamples": 400}
    values["segmentation"] |= changes
    return DenseConfig(**{key: values[key] for key in DenseConfig.model_fields})


def lesions(
    per_class: list[int], seed: int = 0, strength: float = 3.0, most: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw logits (n, c), labels and groups: groups of one class with 1 to `most` images."""
    rng = np.random.default_rng(seed)
    of_group = np.repeat(np.arange(len(per_class)), per_class)
    groups = np.repeat(np.arange(len(of_group)), rng.integers(1, most + 1, len(of_group)))
    labels = of_group[groups]
    noise = rng.normal(size=(len(of_group), len(per_class)))[groups]
    noise = 0.7 * noise + 0.7 * rng.normal(size=noise.shape)
    return noise + strength * np.eye(len(per_class))[labels], labels, groups
