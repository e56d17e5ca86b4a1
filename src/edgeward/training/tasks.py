"""What training does differently for classification and for segmentation; all else is shared.

A task knows its batches, its loss and its validation metrics. The ``train`` stage and fine-tuning
drive either one through the same few calls.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgeward.core.windows import sliding
from edgeward.data.store import Prepared
from edgeward.training.augment import augment, augment_with_masks
from edgeward.training.batches import epoch_batches, read, split_batches, stream, to_float
from edgeward.training.config import AugmentConfig, PatchConfig
from edgeward.training.dice import DenseLoss, outputs_of, supervise
from edgeward.training.loss import Loss
from edgeward.training.metrics import dice_metrics, overlap, validation_metrics
from edgeward.training.patches import draw

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


@dataclass
class Classification:
    """One class per image.

    Attributes
    ----------
    criterion : of logits (b, n_classes) and labels (b,).
    shift : float64 (n_classes,), see `edgeward.training.loss.logit_shift`.
    """

    data: Prepared
    criterion: Loss
    shift: np.ndarray
    layout: torch.memory_format
    sampling: Any = "natural"

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


@dataclass
class Segmentation:
    """One label per pixel or voxel.

    Attributes
    ----------
    criterion : of logits (b, n_labels, *spatial) and labels (b, *spatial).
    patches : how volumes are cut; None for images in the plane, which are taken whole.
    """

    data: Prepared
    criterion: DenseLoss
    deep_supervision: float
    patches: PatchConfig | None
    layout: torch.memory_format
    sampling: Any = "natural"

    def train_items(self, batch_size: int, *, seed: int, epoch: int) -> list[Item]:
        passes = 1 if self.patches is None else self.patches.per_case
        batches = epoch_batches(
            self.data, batch_size, seed=seed, epoch=epoch, sampling=self.sampling, passes=passes
        )
        return [Item(indices, stream(seed, epoch, n, 3)) for n, indices in enumerate(batches)]

    def val_items(self, batch_size: int) -> list[Item]:
        size = 2 * batch_size if self.patches is None else 1
        return [Item(indices, 0) for indices in split_batches(self.data, "val", size)]

    def read(self, item: Item, *, training: bool) -> Batch:
        if training and self.patches is not None:
            images, masks = draw(self.data, item.indices, self.patches, item.key)
        else:
            cases = [self.data.view(int(index)) for index in item.indices]
            images, masks = (np.stack(parts) for parts in zip(*cases, strict=True))
        return torch.from_numpy(images), torch.from_numpy(masks)

    def to_input(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().contiguous(memory_format=self.layout)

    def augment(self, batch: Batch, cfg: AugmentConfig, generator: torch.Generator) -> Batch:
        images, masks = augment_with_masks(*batch, cfg, generator)
        return images.contiguous(memory_format=self.layout), masks

    def loss(self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        outputs = outputs_of(model, images)
        return supervise(self.criterion, outputs, labels.long(), self.deep_supervision)

    def observe(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[np.ndarray, ...]:
        logits = self.logits(model, images)
        labels = labels.long()
        entropy = functional.cross_entropy(logits, labels, reduction="none").flatten(1).mean(1)
        counts = overlap(logits.argmax(1).cpu().numpy(), labels.cpu().numpy(), self.data.n_labels)
        return entropy.cpu().numpy(), counts

    def logits(self, model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """Return float32 (b, n_labels, *spatial); of volumes by windows, see `core.windows`."""
        if self.patches is None:
            return model(images).float()

        def forward(windows: np.ndarray) -> np.ndarray:
            taken = torch.from_numpy(windows).to(images.device)
            return model(taken).float().cpu().numpy()

        size, cut = self.patches.size, self.patches
        found = [
            sliding(forward, image.cpu().numpy(), size, cut.overlap, cut.windows)
            for image in images
        ]
        return torch.from_numpy(np.stack(found)).to(images.device)

    def metrics(self, observed: Sequence[tuple[np.ndarray, ...]]) -> dict[str, float]:
        entropy, counts = (np.concatenate(parts) for parts in zip(*observed, strict=True))
        names = [re.sub(r"[^\w.-]", "_", name) for name in self.data.classes]
        return {"val_loss": float(entropy.mean()), **dice_metrics(counts, names)}


def layout_of(cfg_layout: str) -> torch.memory_format:
    """Return torch's memory format of the config key ``memory_format``."""
    return {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}[cfg_layout]
