"""Structured pruning: whole channels leave the network; then it is fine-tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgeward.compression.step import Step
from edgeward.training.config import FinetuneConfig

if TYPE_CHECKING:
    from edgeward.compression.workpiece import Workpiece


class StructuredPrune(Step):
    """Pruning of channels along torch-pruning's dependency graph; the graph really shrinks."""

    step: Literal["structured_prune"]
    target: Literal["channels", "macs"] = Field(
        "channels",
        description="What `share` is of. channels: of those that can leave, which makes about the square of it in MACs; macs: of all "
        "multiplications of the network, at whatever number of channels that takes.",
    )
    share: float = Field(gt=0, lt=1, description="Share that is left, about.")
    importance: Literal["l1", "l2", "taylor", "random"] = Field(
        "l2",
        description="Which channels go. l1, l2: those with the smallest weights, in all layers that they tie together; taylor: those "
        "whose absence changes the loss least, to first order; random: a control.",
    )
    scope: Literal["layer", "global"] = Field(
        "layer",
        description="layer: the same share in every layer. global: the least important ones of all layers, which spares sensitive ones.",
    )
    max_ratio: float = Field(
        0.8,
        gt=0,
        lt=1,
        description="Largest share of its channels that a single layer loses; guards against emptied layers where scope is global.",
    )
    round_to: int = Field(
        8,
        ge=1,
        description="Channels left are a multiple of this: 8 or 16 fill the vector registers of the device.",
    )
    keep_channels: list[str] = Field(
        [],
        description="Modules whose output channels all stay, by exact name. What cannot be pruned is found out, and listed in recipe.json.",
    )
    finetune: FinetuneConfig | None = Field(
        FinetuneConfig(), description="null: prune and do not train."
    )

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
