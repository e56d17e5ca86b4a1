"""INT8 with training: starts from the PTQ model and lets the weights adapt to the rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from edgeward.compression.int8 import Int8, ObserverChoice
from edgeward.training.config import FinetuneConfig, FinetuneEpochs, FinetuneRate

if TYPE_CHECKING:
    from edgeward.compression.workpiece import Workpiece


class QatFinetune(FinetuneConfig):
    """A short training of a network that is quantized."""

    epochs: FinetuneEpochs = 2
    lr: FinetuneRate = 1e-4


class QatInt8(Int8):
    """Quantization-aware training; differs from `ptq_int8` with the same `observer` in nothing but the training."""

    step: Literal["qat_int8"]
    observer: ObserverChoice = Field(
        "minmax",
        description="Ranges of activations to start from, as in `ptq_int8`; training moves them (range_epochs).",
    )
    range_momentum: float = Field(
        0.01,
        ge=0,
        le=1,
        description="How fast the range of an activation follows the newest batch, 0 (calibrated range for good) to 1 (last batch).",
    )
    range_epochs: int = Field(
        1,
        ge=0,
        description="Epochs in which ranges move; afterwards they rest and the weights settle on them. Below finetune.epochs.",
    )
    finetune: QatFinetune = QatFinetune()

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
