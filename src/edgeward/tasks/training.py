"""What training needs of a task: batches, a loss and validation metrics; all else is shared.

``tasks/<name>/train.py`` holds ``training_task(data, loss, *, patches, layout, sampling)``, which returns a
`TrainingTask`. The ``train`` stage and fine-tuning get it from `edgeward.training.task`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from edgeward.data.store import Prepared
from edgeward.tasks.augment import augment
from edgeward.tasks.batches import (
    Sampling,
    epoch_batches,
    read,
    split_batches,
    stream,
    to_float,
)
from edgeward.tasks.config import AugmentConfig, PatchConfig

Batch = tuple[torch.Tensor, torch.Tensor]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Item(NamedTuple):
    """One batch to be read: which images, and the seed of what is random about reading them."""

    indices: np.ndarray
    key: int


@dataclass
class TrainingTask(ABC):
    """Batches, loss and metrics of what is learned.

    Attributes
    ----------
    criterion : of logits and labels, a scalar.
    shift : float64 (n_labels,), what the loss makes one add to the logits so that their softmax has the natural
        prevalence; only differences matter.
    patches : how volumes are cut; None for images in the plane, which are taken whole.
    layout : of the images that the model gets.
    watched : the validation metric that early stopping maximises.
    shown : heading in the log line of an epoch -> validation metric.
    """

    data: Prepared
    criterion: Loss
    shift: np.ndarray
    patches: PatchConfig | None
    layout: torch.memory_format
    sampling: Sampling

    watched: ClassVar[str]
    shown: ClassVar[dict[str, str]]

    def train_items(self, batch_size: int, *, seed: int, epoch: int) -> list[Item]:
        """Return the training batches of an epoch."""
        passes = 1 if self.patches is None else self.patches.per_case
        batches = epoch_batches(
            self.data, batch_size, seed=seed, epoch=epoch, sampling=self.sampling, passes=passes
        )
        return [Item(indices, stream(seed, epoch, n, 3)) for n, indices in enumerate(batches)]

    def val_items(self, batch_size: int) -> list[Item]:
        """Return the batches of the validation split; volumes come one by one."""
        size = 2 * batch_size if self.patches is None else 1
        return [Item(indices, 0) for indices in split_batches(self.data, "val", size)]

    def to_input(self, images: torch.Tensor) -> torch.Tensor:
        """Turn images, on their device, into what the model takes: float32 (b, c, *spatial), 0-255."""
        return to_float(images, self.layout)

    @abstractmethod
    def read(self, item: Item, *, training: bool) -> Batch:
        """Read a batch as it is stored: images (b, c, *spatial), and labels or masks."""

    @abstractmethod
    def augment(self, batch: Batch, cfg: AugmentConfig, generator: torch.Generator) -> Batch:
        """Return changed images, after `to_input`, and what becomes of their labels."""

    @abstractmethod
    def loss(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the scalar to be minimised."""

    @abstractmethod
    def observe(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[np.ndarray, ...]:
        """Return what `metrics` needs of a validation batch; the model is in eval mode."""

    @abstractmethod
    def metrics(self, observed: Sequence[tuple[np.ndarray, ...]]) -> dict[str, float]:
        """Return the validation metrics, ``val_loss`` and `watched` among them."""

    @property
    def sets_thresholds(self) -> bool:
        """Whether `thresholds` has something to say."""
        return False

    def thresholds(self, observed: Sequence[tuple[np.ndarray, ...]]) -> np.ndarray:
        """Return the logit above which each label is called, float (n_labels,), from what `observe` gave of validation."""
        raise NotImplementedError


@dataclass
class WholeImages(TrainingTask):
    """A task that labels images as a whole: the model gives logits (b, n_labels), and `criterion` takes them with the labels."""

    def read(self, item: Item, *, training: bool) -> Batch:
        del training
        return read(self.data, item.indices)

    def augment(self, batch: Batch, cfg: AugmentConfig, generator: torch.Generator) -> Batch:
        images, labels = batch
        return augment(images, cfg, generator).contiguous(memory_format=self.layout), labels

    def loss(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.criterion(model(images).float(), labels)

    def observe(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[np.ndarray, ...]:
        return model(images).float().cpu().numpy(), labels.cpu().numpy()
