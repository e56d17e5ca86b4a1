"""Unstructured pruning: the smallest weights become zero while the network is fine-tuned."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from edgeward.compression.step import Step
from edgeward.training.config import FinetuneConfig

if TYPE_CHECKING:
    from edgeward.compression.workpiece import Workpiece

logger = logging.getLogger(__name__)


class MagnitudePrune(Step):
    """Global magnitude pruning; later steps keep the zeros.

    The graph stays as it is: zeros make the file smaller when packed, not the model faster.
    """

    makes_zeros: ClassVar[bool] = True

    step: Literal["magnitude_prune"]
    sparsity: Annotated[
        float, Field(gt=0, lt=1, description="share of the weights that end up zero")
    ]
    least_kept: Annotated[
        float,
        Field(ge=0, lt=1, description="share of its own weights that every layer keeps"),
    ]
    ramp: Annotated[
        float,
        Field(ge=0, lt=1, description="share of fine-tuning over which sparsity rises; 0: at once"),
    ]
    interval: Annotated[int, Field(ge=1, description="steps between two rises of the sparsity")]
    keep_dense: Annotated[list[str], Field(description="modules that are not pruned, by name")]
    finetune: Annotated[FinetuneConfig | None, Field(description="null: prune and do not train")]

    @model_validator(mode="after")
    def _feasible(self) -> MagnitudePrune:
        if self.sparsity + self.least_kept > 1:
            raise ValueError(
                f"sparsity {self.sparsity:g} and least_kept {self.least_kept:g} exceed 1 together"
            )
        return self

    def apply(self, piece: Workpiece) -> None:
        """Prune along the schedule, leave the zeros in the weights and their masks in `piece`."""
        from edgeward.compression import pruning
        from edgeward.compression.layers import weighted_layers
        from edgeward.compression.tuning import tune

        layers = weighted_layers(piece.module, self.keep_dense, "keep_dense")
        pruner = pruning.MagnitudePruner(
            layers,
            self.sparsity,
            least_kept=self.least_kept,
            ramp=self.ramp,
            interval=self.interval,
        )
        if self.finetune is None:
            pruner.prune_to(self.sparsity)
        else:
            tune(
                piece,
                piece.module,
                self.finetune,
                on_step_start=pruner.on_step_start,
            )
        piece.masks = pruner.finish()
        by_layer = pruning.sparsity_by_layer(piece.masks)
        empty = [name for name, share in by_layer.items() if share == 1]
        if empty:
            logger.warning(
                "pruning to %.0f %% left nothing of %s: raise least_kept, name such layers in "
                "keep_dense, or lower the sparsity, if the network does not recover",
                100 * self.sparsity,
                ", ".join(empty),
            )
        total = sum(mask.numel() for mask in piece.masks.values())
        zeros = total - sum(int(mask.sum()) for mask in piece.masks.values())
        piece.effect = {"weights": total, "zeros": zeros, "sparsity_by_layer": by_layer}
        piece.metrics["sparsity"] = zeros / total
