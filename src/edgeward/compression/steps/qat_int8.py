"""INT8 with training: starts from the PTQ model and lets the weights adapt to the rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from edgeward.compression.int8 import Int8
from edgeward.training.config import FinetuneConfig

if TYPE_CHECKING:
    from edgeward.compression.workpiece import Workpiece


class QatInt8(Int8):
    """Quantization-aware training; differs from `ptq_int8` in nothing but the training."""

    step: Literal["qat_int8"]
    range_momentum: Annotated[
        float, Field(ge=0, le=1, description="share of the newest batch in an activation's range")
    ]
    range_epochs: Annotated[
        int, Field(ge=0, description="epochs in which ranges move; fixed afterwards")
    ]
    finetune: FinetuneConfig

    @model_validator(mode="after")
    def _ranges_rest(self) -> QatInt8:
        if self.range_epochs >= self.finetune.epochs:
            raise ValueError(
                f"range_epochs ({self.range_epochs}) must be below finetune.epochs "
                f"({self.finetune.epochs}), so that weights settle on fixed ranges"
            )
        return self

    def apply(self, piece: Workpiece) -> None:
        """Calibrate as PTQ does, train from there, convert, export."""
        from edgeward.compression import qat

        calibrated = self.calibrate(piece)
        trained = qat.train(
            piece,
            self,
            calibrated,
            self.finetune,
            range_momentum=self.range_momentum,
            range_epochs=self.range_epochs,
        )
        self.finish(piece, trained)
