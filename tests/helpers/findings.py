"""Models of several findings, and data that hold some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from shipped import shipped

from edgeward.data import stage
from edgeward.data.config import DataConfig
from edgeward.tasks.assessment import Cases
from edgeward.tasks.multilabel.assess import Arm
from edgeward.tasks.multilabel.config import Safety

NAMES = ["common", "middling", "rare"]


def drawn(
    seed: int = 0, patients: int = 80, strength: float = 2.0, unknown: float = 0.0, most: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw logits float32 (n, 3), findings int8 (n, 3) and groups: patients with 1 to `most` images that have the same findings."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), rng.integers(1, most + 1, patients))
    findings = (rng.random((patients, 3)) < [0.5, 0.25, 0.12])[groups].astype(np.int8)
    findings[:3] = np.eye(3)
    logits = rng.normal(size=findings.shape) + strength * findings - strength / 2
    findings[rng.random(findings.shape) < unknown] = -1
    return logits.astype(np.float32), findings, groups


def cases_of(findings: np.ndarray, groups: np.ndarray) -> Cases:
    """Test cases numbered from 0, in strata of their rarest finding."""
    held = findings == 1
    strata = np.where(held[:, 2], 2, np.where(held[:, 1], 1, np.where(held[:, 0], 0, 3)))
    return Cases(np.arange(len(groups)), strata, groups, NAMES, ["rare"], {}, findings)


def section(**changes: Any) -> Safety:
    """The shipped section of multilabel without a critical finding, and `changes`."""
    values = shipped("safety", "default")["multilabel"] | {"critical": []}
    return Safety.model_validate(values | changes)


def caller(
    logits: np.ndarray,
    findings: np.ndarray,
    groups: np.ndarray,
    val: tuple[np.ndarray, np.ndarray] | None = None,
    **changes: Any,
) -> Arm:
    """A model by its logits, without a shift; `val` are logits and findings of validation, by default the same."""
    cases, shift = cases_of(findings, groups), np.zeros(3)
    return Arm.of(cases, section(**changes), logits, shift, val or (logits, findings))


def prepare(out: Path, *overrides: str) -> Path:
    """Prepare the tiny phantom of findings; return its folder."""
    values = shipped("data", "phantom_findings_tiny", *overrides)
    stage.run(DataConfig.model_validate(values), out=out, data_root=None)
    return out
