"""What training does differently for classification and for segmentation; all else is shared.

A task knows its batches, its loss and its validation metrics. The ``train`` stage and fine-tuning
drive either one through the same few calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from edgeward.data.store import Prepared
from edgeward.tasks.config import AugmentConfig

Batch = tuple[torch.Tensor, torch.Tensor]


class Item(NamedTuple):
    """One batch to be read: which images, and the seed of what is random about reading them."""

    indices: np.ndarray
    key: int


class Task(Protocol):
    """Batches, loss and metrics of what is learned."""

    data: Prepared

    def train_items(self, batch_size: int, *, seed: int, epoch: int) -> list[Item]:
        """Return the training batches of an epoch."""

    def val_items(self, batch_size: int) -> list[Item]:
        """Return the batches of the validation split."""

    def read(self, item: Item, *, training: bool) -> Batch:
        """Read a batch as it is stored: images and labels or masks."""

    def to_input(self, images: torch.Tensor) -> torch.Tensor:
        """Turn images, on their device, into what the model takes: float32 (b, c, *spatial), 0-255."""

    def augment(self, batch: Batch, cfg: AugmentConfig, generator: torch.Generator) -> Batch:
        """Return changed images, after `to_input`, and what becomes of their labels."""

    def loss(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the scalar to be minimised."""

    def observe(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[np.ndarray, ...]:
        """Return what `metrics` needs of a validation batch; the model is in eval mode."""

    def metrics(self, observed: Sequence[tuple[np.ndarray, ...]]) -> dict[str, float]:
        """Return the validation metrics, ``val_loss`` among them."""


def layout_of(cfg_layout: str) -> torch.memory_format:
    """Return torch's memory format of the config key ``memory_format``."""
    return {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}[cfg_layout]
