"""Dice + cross entropy, with deep supervision, for dense outputs in the plane and in volumes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from edgeward.tasks.segmentation.config import DiceLossConfig
from edgeward.tasks.training import Loss

_SMOOTH = 1e-5


def soft_dice(logits: torch.Tensor, labels: torch.Tensor, *, batch: bool) -> torch.Tensor:
    """Return ``1 - Dice`` of the class probabilities, averaged over the foreground classes.

    ``2 sum(p y) / (sum p + sum y)``: Milletari et al., V-Net, 3DV 2016, with sums instead of sums of
    squares, as in nnU-Net and in MONAI's `DiceLoss`.

    Parameters
    ----------
    logits : float, shape (b, n_labels, *spatial); label 0 is background and left out.
    labels : int64, shape (b, *spatial).
    batch : sum over all images of the batch before dividing, or image by image.
    """
    n_labels = logits.shape[1]
    p = logits.softmax(1)[:, 1:].flatten(2)
    y = functional.one_hot(labels.flatten(1), n_labels)[..., 1:].movedim(-1, 1).to(p.dtype)
    over = (0, 2) if batch else (2,)
    both, either = (p * y).sum(over), p.sum(over) + y.sum(over)
    return (1 - (2 * both + _SMOOTH) / (either + _SMOOTH)).mean()


def make_dense_loss(cfg: DiceLossConfig) -> Loss:
    """Return a function of logits (b, n_labels, *spatial) and labels (b, *spatial) that gives a scalar.

    The weighted sum of `soft_dice` and of the cross entropy averaged over all voxels.
    """

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        dice = soft_dice(logits, labels, batch=cfg.dice_sums == "batch")
        entropy = functional.cross_entropy(logits, labels)
        return cfg.dice_weight * dice + cfg.cross_entropy_weight * entropy

    return loss


def supervise(
    loss: Loss, outputs: Sequence[torch.Tensor], labels: torch.Tensor, decay: float
) -> torch.Tensor:
    """Return the weighted mean of the loss over all outputs: weights 1, decay, decay^2, ..

    Outputs of lower resolution are compared with the labels of the nearest voxels. Deep supervision:
    Lee et al., AISTATS 2015; weights halved per level as in nnU-Net with ``decay`` 0.5.

    Parameters
    ----------
    outputs : float (b, n_labels, *spatial), full resolution first.
    labels : int64 (b, *full resolution).
    """
    total, weights = outputs[0].new_zeros(()), 0.0
    for level, logits in enumerate(outputs):
        weight = decay**level
        if weight == 0:
            break
        target = labels
        if logits.shape[2:] != labels.shape[1:]:
            small = functional.interpolate(
                labels[:, None].float(), logits.shape[2:], mode="nearest"
            )
            target = small[:, 0].long()
        total = total + weight * loss(logits.float(), target)
        weights += weight
    return total / weights


def outputs_of(model: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """Return what deep supervision looks at: all train outputs, or the only one of an exported program."""
    if hasattr(model, "train_outputs"):
        return list(model.train_outputs(image))
    return [model(image)]
