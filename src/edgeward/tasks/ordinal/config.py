"""Keys of the task of one grade per image: ``safety.ordinal`` and its losses."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from edgeward.core.config import Closed, inherited
from edgeward.tasks.config import AnyLoss, Operating
from edgeward.tasks.multilabel.config import Evidence, Margin
from edgeward.tasks.multilabel.config import LossConfig as OfFindings


class Margins(Closed):
    """Non-inferiority margins: fix them before looking at results, by what a loss means for a patient, not by what the data can
    show. A step is named after the grade that it leads to: `moderate or worse`."""

    coverage: ClassVar[None] = None  # steps have no prediction sets
    recall: Margin = Field(
        0.05, description="Sensitivity of each rare step, one endpoint per step."
    )
    critical: Margin = Field(
        0.03,
        description="Sensitivity of each critical step (`data.critical`), e.g. the grade from which patients are referred.",
    )
    of_class: dict[str, Margin] = Field(
        {},
        description="Sensitivity of single steps, e.g. `{severe or worse: 0.02}`: goes before the two above, and makes an endpoint of a "
        "step that has none.",
    )
    kappa: Margin = Field(0.03, description="Cohen's kappa with quadratic weights.")
    mean_absolute_error: Annotated[float, Field(gt=0)] = Field(
        0.05,
        description="Mean absolute error, grades: 0.05 = one image in twenty a grade further off.",
    )
    auc: Margin = Field(0.01, description="AUC, mean over the steps.")
    ece: Margin = Field(
        0.02,
        description="Debiased root-mean-square ECE over all steps: how much further the stated probability may be off, on average.",
    )


class Safety(Closed):
    """What ``assess`` measures and asks of grades."""

    coverage: ClassVar[None] = None  # steps have no prediction sets
    critical: list[str] = inherited(
        "data.critical",
        [],
        "Steps at which a missed case harms the patient, e.g. `[moderate or worse]`; those of the data.",
    )
    floors: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(
        {},
        description="Least sensitivity that the compressed model itself must have, whatever its reference has, e.g. "
        "`{moderate or worse: 0.85}`; each is an endpoint.",
    )
    ece_bins: int = Field(
        15,
        ge=2,
        le=100,
        description="Equal-mass bins of the debiased ECE and of the reliability data.",
    )
    operating: Operating = Operating()
    margins: Margins = Margins()
    evidence: Evidence = Evidence()


class LossConfig(AnyLoss):
    """Of one grade per image: a logit for each step between two grades, positive for all that is beyond it (Niu et al., Ordinal
    Regression with Multiple Output CNN, CVPR 2016, section 3). Keys that the chosen loss does not use are ignored."""

    name: Literal[
        "cumulative_logit_adjusted", "cumulative_cross_entropy", "cumulative_class_balanced"
    ] = Field(
        description="cumulative_cross_entropy: probabilities at the natural prevalence; severe grades that are rare may never be called. "
        "cumulative_logit_adjusted: balanced error of each step (Menon et al. 2021). cumulative_class_balanced: weights (Cui et al. 2019)."
    )
    tau: float = Field(
        1.0,
        ge=0,
        description="cumulative_logit_adjusted: 0 is cross entropy, 1 aims at the balanced error; between them trades both.",
    )
    beta: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="cumulative_class_balanced: 0 is unweighted, towards 1 the weights go as 1/count (0.99 to 0.9999 are usual).",
    )
    threshold: Literal["zero", "youden"] = Field(
        "zero",
        description="From where on a case is called beyond a step. zero: its logit is above 0. youden: what is best on validation, step by "
        "step, for sensitivity + specificity; training sets it, compression keeps it, and it is in the file.",
    )

    @property
    def of_findings(self) -> OfFindings:
        """The same loss, each step being a finding."""
        return OfFindings.model_validate(
            {
                "name": self.name.replace("cumulative", "binary"),
                "tau": self.tau,
                "beta": self.beta,
                "threshold": self.threshold,
            }
        )


LOSSES = (LossConfig,)
