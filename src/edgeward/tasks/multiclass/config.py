"""Keys of the task of one class per image: ``safety.multiclass`` and its losses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeward.core.config import Closed, inherited
from edgeward.tasks.config import AnyLoss, Operating


class Margins(Closed):
    """Non-inferiority margins: fix them before looking at results, by what a loss means for a patient, not by what the data can
    show."""

    recall: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Recall of each rare class, one endpoint per class: 0.05 = at most 5 more missed in 100 cases. Every halving needs "
        "four times the cases.",
    )
    critical: float = Field(
        0.03,
        gt=0,
        lt=1,
        description="Recall of each critical class (`data.critical`), rare or not: those in which a missed case harms the patient.",
    )
    of_class: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(
        {},
        description="Recall of single classes, e.g. `{mel: 0.02}`: goes before the two above, and makes an endpoint of a class that "
        "has none.",
    )
    balanced_accuracy: float = Field(
        0.03,
        gt=0,
        lt=1,
        description="Mean recall over all classes; tighter than a single class because it averages over them.",
    )
    auc: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="Macro one-vs-rest AUC. Between good models of one task AUC differs by about 0.01-0.02.",
    )
    coverage: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="If given, an endpoint for each rare and each critical class: how much less often its prediction sets hold it.",
    )
    ece: float = Field(
        0.02,
        gt=0,
        lt=1,
        description="Debiased root-mean-square ECE: how much further the stated confidence may be off, on average.",
    )


class Evidence(Closed):
    """What a pass needs besides its interval."""

    reference_recall: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="If the reference's recall of a rare class is below this for sure (upper limit of its interval), there is "
        "nothing to lose and a pass would mean nothing. At least about four times the recall margin.",
    )
    groups_per_class: int = Field(
        30,
        ge=2,
        description="Independent groups (lesions, patients) of each class in the test split, for the AUC endpoint.",
    )
    groups: int = Field(
        300,
        ge=2,
        description="Groups in the test split in all, for the ECE endpoint: about 20 per bin.",
    )


class Uncertainty(Closed):
    """Prediction sets, and decisions that are left to people; both are calibrated on validation."""

    coverage: float = Field(
        0.9,
        gt=0,
        lt=1,
        description="Share of each class whose prediction set holds it (class-conditional conformal prediction). A class needs "
        "coverage / (1 - coverage) validation images, or it is in every set.",
    )
    decided: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Share of the images that the model decides by itself, the most confident ones; the risk among them is measured.",
    )


class Safety(Closed):
    """What ``assess`` measures and asks of class decisions."""

    critical: list[str] = inherited(
        "data.critical", [], "Classes in which a missed case harms the patient; those of the data."
    )
    floors: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(
        {},
        description="Least recall that the compressed model itself must have, whatever its reference has, e.g. `{mel: 0.8}`; each is an "
        "endpoint.",
    )

    ece_bins: int = Field(
        15,
        ge=2,
        le=100,
        description="Equal-mass bins of the debiased ECE and of the reliability data. 15 is customary; fewer when the test set has "
        "under about 20 images per bin.",
    )
    operating: Operating = Operating()
    uncertainty: Uncertainty = Uncertainty()
    margins: Margins = Margins()
    evidence: Evidence = Evidence()


class LossConfig(AnyLoss):
    """Of one class per image. Keys that the chosen loss does not use are ignored."""

    name: Literal["cross_entropy", "class_balanced", "logit_adjusted", "focal"] = Field(
        "logit_adjusted",
        description="cross_entropy: accuracy at the natural prevalence; rare classes may never be found. logit_adjusted: balanced "
        "error (Menon et al. 2021). class_balanced: weights (Cui et al. 2019). focal: hard examples (Lin et al. 2017).",
    )
    tau: float = Field(
        1.0,
        ge=0,
        description="logit_adjusted: 0 is cross entropy, 1 aims at the balanced error; between them trades both.",
    )
    beta: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="class_balanced: 0 is unweighted, towards 1 the weights go as 1/count (0.99 to 0.9999 are usual).",
    )
    gamma: float = Field(2.0, ge=0, description="focal: 0 is cross entropy, 2 is usual.")
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the target spread over the other classes; calms over-confidence. 0 with focal.",
    )

    @model_validator(mode="after")
    def _focal_is_not_smoothed(self) -> LossConfig:
        if self.name == "focal" and self.label_smoothing > 0:
            raise ValueError("label_smoothing must be 0 with the focal loss")
        return self


LOSSES = (LossConfig,)
