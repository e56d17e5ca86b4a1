"""Keys of the task of several findings per image: ``safety.multilabel`` and its losses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgeward.core.config import Closed, inherited
from edgeward.tasks.config import AnyLoss, Operating

Margin = Annotated[float, Field(gt=0, lt=1)]


class Margins(Closed):
    """Non-inferiority margins: fix them before looking at results, by what a loss means for a patient, not by what the data can
    show."""

    recall: Margin = Field(
        0.05,
        description="Recall of each rare finding, one endpoint per finding: 0.05 = at most 5 more missed in 100 cases. Every halving "
        "needs four times the cases.",
    )
    critical: Margin = Field(
        0.03,
        description="Recall of each critical finding (`data.critical`), rare or not: those in which a missed case harms the patient.",
    )
    each: Margin | None = Field(
        None,
        description="If given, recall of each finding that is neither: every finding is an endpoint then. null: what is lost in those "
        "without an endpoint is tested, corrected for their number, and reported.",
    )
    of_class: dict[str, Margin] = Field(
        {},
        description="Recall of single findings, e.g. `{pneumothorax: 0.02}`: goes before the others, and makes an endpoint of a "
        "finding that has none.",
    )
    balanced_accuracy: Margin = Field(
        0.03,
        description="Mean of sensitivity and specificity over all findings: what a lower threshold gains in one it pays in the other.",
    )
    auc: Margin = Field(0.01, description="AUC, mean over the findings.")
    average_precision: Margin = Field(
        0.02,
        description="Average precision, mean over the findings (mAP): the usual measure of long tails, in which rare findings weigh as "
        "common ones.",
    )
    coverage: Margin | None = Field(
        None,
        description="If given, an endpoint for each finding whose recall is one: how much less often its prediction sets hold it.",
    )
    ece: Margin = Field(
        0.02,
        description="Debiased root-mean-square ECE over all findings: how much further the stated probability may be off, on average.",
    )


class Evidence(Closed):
    """What a pass needs besides its interval."""

    reference_recall: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="If the reference's recall of a finding is below this for sure (upper limit of its interval), there is nothing to "
        "lose and a pass would mean nothing. At least about four times the recall margin.",
    )
    groups_per_class: int = Field(
        30,
        ge=2,
        description="Independent groups (patients) with each finding in the test split, for the endpoints AUC and mAP.",
    )
    groups: int = Field(
        300, ge=2, description="Groups in the test split in all, for the ECE endpoint."
    )


class Safety(Closed):
    """What ``assess`` measures and asks of findings that are called each on its own."""

    critical: list[str] = inherited(
        "data.critical",
        [],
        "Findings in which a missed case harms the patient; those of the data.",
    )
    floors: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(
        {},
        description="Least recall that the compressed model itself must have, whatever its reference has, e.g. `{pneumothorax: 0.8}`; "
        "each is an endpoint.",
    )
    ece_bins: int = Field(
        15,
        ge=2,
        le=100,
        description="Equal-mass bins of the debiased ECE and of the reliability data.",
    )
    operating: Operating = Operating()
    coverage: float = Field(
        0.9,
        gt=0,
        lt=1,
        description="Share of the cases with a finding whose prediction set holds it (conformal prediction, finding by finding, calibrated "
        "on validation). A finding needs coverage / (1 - coverage) validation cases, or it is in every set.",
    )
    margins: Margins = Margins()
    evidence: Evidence = Evidence()


class LossConfig(AnyLoss):
    """Of several findings per image, each with a logit of its own. Keys that the chosen loss does not use are ignored; findings that are
    not known take no part."""

    name: Literal[
        "binary_logit_adjusted",
        "binary_cross_entropy",
        "binary_class_balanced",
        "binary_focal",
        "asymmetric",
        "binary_ldam",
    ] = Field(
        description="binary_cross_entropy: probabilities at the natural prevalence; rare findings may never be called at 0.5. "
        "binary_logit_adjusted: balanced error of each finding (Menon et al. 2021). binary_class_balanced: weights (Cui et al. 2019). "
        "binary_focal: hard examples (Lin et al. 2017). asymmetric: easy negatives count less or nothing (Ridnik et al. 2021). "
        "binary_ldam: larger margins for rare findings (Cao et al. 2019)."
    )
    tau: float = Field(
        1.0,
        ge=0,
        description="binary_logit_adjusted: 0 is cross entropy, 1 aims at the balanced error; between them trades both.",
    )
    beta: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="binary_class_balanced: 0 is unweighted, towards 1 the weights go as 1/count (0.99 to 0.9999 are usual).",
    )
    gamma: float = Field(2.0, ge=0, description="binary_focal: 0 is cross entropy, 2 is usual.")
    gamma_positive: float = Field(
        0.0, ge=0, description="asymmetric: focusing of cases that have the finding; 0 or 1."
    )
    gamma_negative: float = Field(
        4.0, ge=0, description="asymmetric: focusing of those that have not, larger: 2 to 4."
    )
    clip: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="asymmetric: negatives with a probability below this count nothing.",
    )
    margin: float = Field(
        0.5, gt=0, description="binary_ldam: margin of the rarest finding, in logits."
    )
    threshold: Literal["zero", "f1", "youden"] = Field(
        "zero",
        description="From where on a finding is called. zero: its logit is above 0, which is a probability of 0.5 under cross entropy and "
        "the balanced error under the logit-adjusted loss. f1, youden: what is best on validation, finding by finding, for F1 or for "
        "sensitivity + specificity; training sets it, compression keeps it, and it is in the file, whose logits are above 0 where a "
        "finding is called. Few validation cases of a finding make a poor threshold.",
    )


LOSSES = (LossConfig,)
