"""Models of grades."""

from __future__ import annotations

import numpy as np
from shipped import shipped

from edgeward.tasks.assessment import Cases
from edgeward.tasks.ordinal.assess import Arm
from edgeward.tasks.ordinal.config import Safety

GRADES = ["none", "mild", "moderate", "severe"]
STEPS = ["mild or worse", "moderate or worse", "severe or worse"]


def drawn(seed: int = 0, patients: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw logits float32 (n, 3), grades int64 (n,) and patients of one to three images that have the same grade."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    grades = rng.choice(4, patients, p=[0.5, 0.25, 0.15, 0.1])[groups]
    grades[:4] = range(4)
    severity = grades + rng.normal(0, 0.7, len(grades))
    noise = rng.normal(0, 0.3, (len(grades), 3))
    return (severity[:, None] - [0.5, 1.5, 2.5] + noise).astype(np.float32), grades, groups


def steps_of(grades: np.ndarray) -> np.ndarray:
    """Return which steps each image is beyond, int8 (n, 3)."""
    return (grades[:, None] >= np.arange(1, 4)).astype(np.int8)


def model(
    logits: np.ndarray,
    grades: np.ndarray,
    groups: np.ndarray,
    val: tuple[np.ndarray, np.ndarray] | None = None,
) -> Arm:
    """A model by its logits, without a shift; `val` are logits and grades of validation, by default the same."""
    beyond = steps_of(grades)
    cases = Cases(np.arange(len(grades)), grades, groups, STEPS, STEPS[-1:], {}, beyond)
    section = Safety.model_validate(shipped("safety", "default")["ordinal"] | {"critical": []})
    return Arm.of(
        cases,
        section,
        logits,
        np.zeros(3),
        (logits, beyond) if val is None else (val[0], steps_of(val[1])),
    )
