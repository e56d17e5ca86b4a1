"""Unstructured pruning: the smallest weights become zero while the network is fine-tuned."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ClassVar, Literal

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
    sparsity: float = Field(
        gt=0,
        lt=1,
        description="Share of the weights of convolutions and linear layers, over all layers together, that end up zero.",
    )
    least_kept: float = Field(
        0.03,
        ge=0,
        lt=1,
        description="Share of its own weights that every layer keeps, the largest ones. By magnitude alone whole layers vanish, and with "
        "one layer the network. Well below 1 - sparsity, so that magnitude still decides.",
    )
    ramp: float = Field(
        0.6,
        ge=0,
        lt=1,
        description="Share of the fine-tuning in which the sparsity rises, fast at first (Zhu and Gupta 2017); the rest is for recovery. "
        "0: all at once at the start.",
    )
    interval: int = Field(
        10, ge=1, description="Steps between two rises; many small ones are gentler than few."
    )
    keep_dense: list[str] = Field(
        [],
        description="Modules that are not pruned, by exact name (of a block: everything in it), e.g. `[net.head.fc]`.",
    )
    finetune: FinetuneConfig | None = Field(
        FinetuneConfig(), description="null: prune and do not train."
    )

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
