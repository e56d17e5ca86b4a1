"""Keys of the task of one class per image: ``safety.multiclass`` and its losses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeward.core.config import Closed
from edgeward.tasks.config import AnyLoss


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


class Safety(Closed):
    """What ``assess`` measures and asks of class decisions."""

    ece_bins: int = Field(ge=2, le=100, description="Equal-mass bins of ECE and reliability data.")
    margins: Margins
    evidence: Evidence


class LossConfig(AnyLoss):
    """What is minimised. Keys that the chosen loss does not use are ignored."""

    name: Annotated[
        Literal["cross_entropy", "class_balanced", "logit_adjusted", "focal"],
        Field(description="logit_adjusted and class_balanced train for balanced error"),
    ]
    tau: Annotated[float, Field(ge=0, description="logit_adjusted: strength; 1 is the theory's")]
    beta: Annotated[float, Field(ge=0, lt=1, description="class_balanced: 0 is unweighted")]
    gamma: Annotated[float, Field(ge=0, description="focal: 0 is cross entropy")]
    label_smoothing: Annotated[float, Field(ge=0, lt=1, description="not for focal")]

    @model_validator(mode="after")
    def _focal_is_not_smoothed(self) -> LossConfig:
        if self.name == "focal" and self.label_smoothing > 0:
            raise ValueError("label_smoothing must be 0 with the focal loss")
        return self


LOSSES = (LossConfig,)
