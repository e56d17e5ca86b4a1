"""The task of one label per pixel or voxel."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgeward.core.windows import sliding
from edgeward.data.store import Prepared
from edgeward.tasks.augment import augment_with_masks
from edgeward.tasks.batches import Sampling, epoch_batches, split_batches, stream
from edgeward.tasks.config import AugmentConfig, PatchConfig
from edgeward.tasks.segmentation.losses import DenseLoss, outputs_of, supervise
from edgeward.tasks.segmentation.patches import draw
from edgeward.tasks.training import Batch, Item
from edgeward.tasks.validation import dice_metrics, overlap


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
    sampling: Sampling = "natural"

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
