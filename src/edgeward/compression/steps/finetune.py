"""Training on, and nothing else: what of a recipe's change is its training?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from edgeward.compression.step import Step
from edgeward.training.config import FinetuneConfig, FinetuneEpochs, FinetuneRate

if TYPE_CHECKING:
    from edgeward.compression.workpiece import Workpiece


class AsQat(FinetuneConfig):
    """As short as quantization-aware training is, so that it is its control."""

    epochs: FinetuneEpochs = 2
    lr: FinetuneRate = 1e-4


class Finetune(Step):
    """Fine-tune the network as it stands, in float."""

    keeps_zeros: ClassVar[bool] = True

    step: Literal["finetune"]
    finetune: AsQat = AsQat()

    def apply(self, piece: Workpiece) -> None:
        """Fine-tune the module."""
        from edgeward.compression.tuning import tune

        piece.module.requires_grad_(True)
        tune(piece, piece.module, self.finetune)
        piece.module.eval()
