"""Training on, and nothing else: what of a recipe's change is its training?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from edgeward.compression.step import Step
from edgeward.compression.steps.qat_int8 import QatFinetune

if TYPE_CHECKING:
    from edgeward.compression.workpiece import Workpiece


class Finetune(Step):
    """Fine-tune the network as it stands, in float; as long as quantization-aware training does, whose control it is."""

    keeps_zeros: ClassVar[bool] = True

    step: Literal["finetune"]
    finetune: QatFinetune = QatFinetune()

    def apply(self, piece: Workpiece) -> None:
        """Fine-tune the module."""
        from edgeward.compression.tuning import tune

        piece.module.requires_grad_(True)
        tune(piece, piece.module, self.finetune)
        piece.module.eval()
