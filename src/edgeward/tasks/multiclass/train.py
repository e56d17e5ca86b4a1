"""The task of one class per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from edgeward.data.store import Prepared
from edgeward.tasks.augment import augment
from edgeward.tasks.batches import Sampling, epoch_batches, read, split_batches, to_float
from edgeward.tasks.config import AugmentConfig
from edgeward.tasks.multiclass.losses import Loss
from edgeward.tasks.training import Batch, Item
from edgeward.tasks.validation import validation_metrics


@dataclass
class Classification:
    """One class per image.

    Attributes
    ----------
    criterion : of logits (b, n_classes) and labels (b,).
    shift : float64 (n_classes,), see `edgeward.tasks.multiclass.losses.logit_shift`.
    """

    data: Prepared
    criterion: Loss
    shift: np.ndarray
    layout: torch.memory_format
    sampling: Sampling = "natural"

    def train_items(self, batch_size: int, *, seed: int, epoch: int) -> list[Item]:
        batches = epoch_batches(
            self.data, batch_size, seed=seed, epoch=epoch, sampling=self.sampling
        )
        return [Item(indices, 0) for indices in batches]

    def val_items(self, batch_size: int) -> list[Item]:
        return [Item(indices, 0) for indices in split_batches(self.data, "val", 2 * batch_size)]

    def read(self, item: Item, *, training: bool) -> Batch:
        del training
        return read(self.data, item.indices)

    def to_input(self, images: torch.Tensor) -> torch.Tensor:
        return to_float(images, self.layout)

    def augment(self, batch: Batch, cfg: AugmentConfig, generator: torch.Generator) -> Batch:
        images, labels = batch
        return augment(images, cfg, generator).contiguous(memory_format=self.layout), labels

    def loss(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.criterion(model(images).float(), labels)

    def observe(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[np.ndarray, ...]:
        return model(images).float().cpu().numpy(), labels.cpu().numpy()

    def metrics(self, observed: Sequence[tuple[np.ndarray, ...]]) -> dict[str, float]:
        logits, labels = (np.concatenate(parts) for parts in zip(*observed, strict=True))
        rare = [self.data.classes.index(name) for name in self.data.card["rare_classes"]]
        return validation_metrics(logits, labels, self.shift, rare)
