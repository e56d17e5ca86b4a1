"""Decision borders put back to where the uncompressed network has them, as the last act of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgeward.compression.step import Step

if TYPE_CHECKING:
    from edgeward.compression.workpiece import Workpiece


class AlignDecisions(Step):
    """Add a constant to each logit, so that each class is called as often as by the uncompressed network."""

    final: ClassVar[bool] = True
    follows_final: ClassVar[bool] = True
    keeps_zeros: ClassVar[bool] = True

    step: Literal["align_decisions"]
    split: Literal["val", "calibration"] = Field(
        "val",
        description="Images that are called by both networks. val: the validation split. calibration: the training images that set the "
        "ranges; where validation is scarce.",
    )
    labels: bool = Field(
        False,
        description="false: labels are not looked at. true: every class of the split weighs alike, so that borders of rare classes are "
        "not fitted to what common ones do.",
    )

    probabilities: Literal["kept", "moved"] = Field(
        "kept",
        description="kept: logit_shift takes the constants back, so that probabilities and AUC stay to the last digit and only decisions "
        "change. moved: they follow the constants, too, which repairs the calibration of a network whose logits rounding has shifted, and "
        "harms that of one which training has moved (docs/safe-compression.md).",
    )

    @property
    def needs(self) -> tuple[str, ...]:
        """One decision per case to count."""
        return ("align_decisions",)

    def apply(self, piece: Workpiece) -> None:
        """Count on the split, and put the constants into the last bias."""
        from edgeward.compression.alignment import align

        align(piece, self.split, self.labels, self.probabilities)
