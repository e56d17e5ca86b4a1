"""Inputs shared by the tests of assessments."""

from __future__ import annotations

from typing import Any

import numpy as np
from shipped import shipped

from edgeward.safety.config import SafetyGroup, StudyConfig
from edgeward.tasks.assessment import Cases
from edgeward.tasks.multiclass.assess import Arm
from edgeward.tasks.multiclass.config import Safety as OfClasses
from edgeward.tasks.multiclass.fixed import Labelled
from edgeward.tasks.segmentation.config import Safety as OfLabels


def config(
    multiclass: dict[str, Any] | None = None,
    segmentation: dict[str, Any] | None = None,
    **changes: Any,
) -> StudyConfig:
    """The shipped configuration with fewer resamples, no critical class, and `changes`; of the sections those of a task."""
    values = shipped("safety", "default") | {"resamples": 400} | changes
    values["multiclass"] |= {"critical": []} | (multiclass or {})
    values["segmentation"] |= segmentation or {}
    return SafetyGroup(**values)


def of_few_cases(**changes: object) -> StudyConfig:
    """The shipped configuration, with limits of segmentation that a handful of cases can reach."""
    values = {"small_lesion": None, "evidence": {"reference_dice": 0.2, "groups": 6}, **changes}
    return config(segmentation=values)


def of_classes(**changes: Any) -> OfClasses:
    """The shipped section of multiclass without a critical class, and `changes`."""
    section = shipped("safety", "default")["multiclass"] | {"critical": []}
    return OfClasses.model_validate(section | changes)


def of_labels(**changes: Any) -> OfLabels:
    """The shipped section of segmentation, and `changes`."""
    return OfLabels.model_validate(shipped("safety", "default")["segmentation"] | changes)


def cases_of(
    labels: np.ndarray, groups: np.ndarray, classes: list[str], rare: list[str]
) -> Cases:  # fmt: skip
    """Test cases numbered from 0."""
    return Cases(np.arange(len(labels)), labels, groups, classes, rare)


def classifier(
    logits: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    classes: list[str],
    rare: list[str],
    temperature: float = 1.0,
    val: tuple[np.ndarray, np.ndarray] | None = None,
    **changes: Any,
) -> Arm:
    """A model by its logits, without a shift; `val` are logits and labels, `changes` of the section of its task."""
    cases = cases_of(labels, groups, classes, rare)
    known = None if val is None else Labelled(*val)
    return Arm(cases, of_classes(**changes), logits, np.zeros(len(classes)), temperature, known)


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
