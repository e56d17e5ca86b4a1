"""Training for one label per pixel or voxel."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgeward.core.windows import sliding
from edgeward.data.store import Prepared
from edgeward.tasks.augment import augment_with_masks
from edgeward.tasks.batches import Sampling
from edgeward.tasks.config import AugmentConfig, PatchConfig
from edgeward.tasks.patches import draw
from edgeward.tasks.segmentation.config import DiceLossConfig
from edgeward.tasks.segmentation.losses import make_dense_loss, outputs_of, supervise
from edgeward.tasks.training import Batch, Item, TrainingTask


@dataclass
class Segmentation(TrainingTask):
    """One label per pixel or voxel; `criterion` takes logits (b, n_labels, *spatial) and labels (b, *spatial)."""

    deep_supervision: float

    watched: ClassVar[str] = "val_dice"
    shown: ClassVar[dict[str, str]] = {"Dice": "val_dice"}

    def read(self, item: Item, *, training: bool) -> Batch:
        if training and self.patches is not None:
            images, masks = draw(self.data, item.indices, self.patches, item.key)
        else:
            cases = [self.data.view(int(index)) for index in item.indices]
            images, masks = (np.stack(parts) for parts in zip(*cases, strict=True))
        return torch.from_numpy(images), torch.from_numpy(masks)

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


def training_task(
    data: Prepared,
    loss: DiceLossConfig | None,
    *,
    patches: PatchConfig | None,
    layout: torch.memory_format,
    sampling: Sampling,
) -> Segmentation:
    """See `edgeward.training.task`."""
    criterion = functional.cross_entropy if loss is None else make_dense_loss(loss)
    decay = 0.0 if loss is None else loss.deep_supervision
    return Segmentation(data, criterion, np.zeros(data.n_labels), patches, layout, sampling, decay)


def overlap(decisions: np.ndarray, masks: np.ndarray, n_labels: int) -> np.ndarray:
    """Return per image and label the pixels in both, in the decision, in the mask.

    Parameters
    ----------
    decisions, masks : int, shape (b, *spatial), label indices.

    Returns
    -------
    int64, shape (b, n_labels, 3).
    """
    flat = decisions.reshape(len(decisions), -1), masks.reshape(len(masks), -1)
    rows = []
    for said, is_ in zip(*flat, strict=True):
        table = np.bincount(is_ * n_labels + said, minlength=n_labels**2)
        table = table.reshape(n_labels, n_labels)
        rows.append(np.stack([table.diagonal(), table.sum(0), table.sum(1)], axis=1))
    return np.stack(rows)


def dice_metrics(counts: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Return ``val_dice`` and ``val_dice_<class>``: per image, averaged over those that hold the class.

    Parameters
    ----------
    counts : int64 (n, 1 + n_classes, 3), from `overlap`; label 0 is background and left out.
    names : of the classes.

    Returns
    -------
    ``val_dice`` is the mean over the classes that occur; NaN where none does.
    """
    both, said, is_ = np.moveaxis(counts[:, 1:].astype(np.float64), -1, 0)
    with np.errstate(invalid="ignore"):
        dice = np.where(is_ > 0, 2 * both / (said + is_), np.nan)
    there = (is_ > 0).any(axis=0)
    per_class = np.full(len(names), np.nan)
    per_class[there] = np.nanmean(dice[:, there], axis=0)
    mean = float(per_class[there].mean()) if there.any() else float("nan")
    each = {f"val_dice_{name}": float(v) for name, v in zip(names, per_class, strict=True)}
    return {"val_dice": mean, **each}
