"""Keys of the ``safety`` group; the values are in ``config/safety/``."""

from __future__ import annotations

from pydantic import Field

from edgeward.core.config import Closed


class Margins(Closed):
    """Largest loss that still counts as "as good as the reference", per endpoint, in its own unit."""

    recall: float = Field(
        gt=0, lt=1, description="Of each rare class, as a share (0.05 = 5 points)."
    )
    balanced_accuracy: float = Field(gt=0, lt=1, description="Mean recall over all classes.")
    auc: float = Field(gt=0, lt=1, description="Macro one-vs-rest AUC.")
    ece: float = Field(gt=0, lt=1, description="Root mean square calibration error, debiased.")


class Evidence(Closed):
    """Below these an endpoint is never passed, whatever its interval says."""

    reference_recall: float = Field(
        ge=0,
        lt=1,
        description="A rare class whose reference recall is surely below has nothing to lose.",
    )
    groups_per_class: int = Field(ge=2, description="Test groups of every class, for AUC.")
    groups: int = Field(ge=2, description="Test groups in all, for ECE.")


class SafetyConfig(Closed):
    """What the stage ``assess`` reads."""

    reference: str = Field(min_length=1, description="Recipe that the others are compared with.")
    confidence_level: float = Field(ge=0.5, lt=1, description="Of all intervals, two-sided.")
    resamples: int = Field(ge=200, le=100_000, description="Bootstrap resamples.")
    seed: int = Field(ge=0, description="Of the resamples.")
    ece_bins: int = Field(ge=2, le=100, description="Equal-mass bins of ECE and reliability data.")
    power: float = Field(gt=0.5, lt=1, description="For the number of cases needed.")
    batch_size: int = Field(ge=1, description="Images per inference call.")
    margins: Margins
    evidence: Evidence
