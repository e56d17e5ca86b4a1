"""Structured pruning: whole channels leave the network; then it is fine-tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from edgeward.compression.step import Step
from edgeward.training.config import FinetuneConfig

if TYPE_CHECKING:
    from edgeward.compression.workpiece import Workpiece


class StructuredPrune(Step):
    """Pruning of channels along torch-pruning's dependency graph; the graph really shrinks."""

    step: Literal["structured_prune"]
    target: Annotated[
        Literal["channels", "macs"],
        Field(description="what `share` is of: the channels that can leave, or the MACs"),
    ]
    share: Annotated[float, Field(gt=0, lt=1, description="share that is left, about")]
    importance: Annotated[
        Literal["l1", "l2", "taylor", "random"],
        Field(description="how channels are ranked: norm of their weights, loss to first order"),
    ]
    scope: Annotated[
        Literal["layer", "global"],
        Field(description="rank within each layer, or over all of them"),
    ]
    max_ratio: Annotated[
        float, Field(gt=0, lt=1, description="largest share of channels that one layer loses")
    ]
    round_to: Annotated[int, Field(ge=1, description="channels left are a multiple of this")]
    keep_channels: Annotated[
        list[str], Field(description="modules whose output channels all stay, by name")
    ]
    finetune: Annotated[FinetuneConfig | None, Field(description="null: prune and do not train")]

    def apply(self, piece: Workpiece) -> None:
        """Replace the module by a narrower one."""
        import torch

        from edgeward.compression import channels
        from edgeward.compression.layers import weighted_layers
        from edgeward.compression.tuning import tune

        module = piece.module
        free = weighted_layers(module, self.keep_channels, "keep_channels")
        kept = [name for name in weighted_layers(module, [], "keep_channels") if name not in free]
        generator = torch.Generator().manual_seed(piece.seed)
        images = 255 * torch.rand(piece.example.shape, generator=generator)
        if self.importance == "taylor":
            self._gradients(piece)
        torch.manual_seed(piece.seed)
        pruner = channels.ChannelPruner(
            module,
            images,
            importance=channels.importance(self.importance),
            round_to=self.round_to,
            scope=self.scope,
            max_ratio=self.max_ratio,
            keep=kept,
        )
        if self.target == "macs":
            pruned, ratio = pruner.pruned_to_macs(self.share)
        else:
            ratio = 1 - self.share
            pruned = pruner.pruned(ratio)
        piece.module = pruned
        piece.effect = {
            "channel_ratio": ratio,
            "channels": channels.widths(module, pruned),
            "channels_kept": pruner.excluded,
        }
        if self.finetune is not None:
            tune(piece, pruned, self.finetune)

    def _gradients(self, piece: Workpiece) -> None:
        """Leave the gradients of the mean cross entropy of some training images on the module."""

        from edgeward.tasks.inputs import patches_of
        from edgeward.training.task import training_task

        task = training_task(piece.data, None, patches=patches_of(piece.meta))
        for item in task.train_items(64, seed=piece.seed, epoch=0)[:8]:
            images, labels = task.read(item, training=True)
            task.loss(piece.module, task.to_input(images), labels).backward()
