"""Losses for imbalanced classes, and the shift of the logits that each one causes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from edgeward.core.errors import UserError
from edgeward.data.store import Prepared
from edgeward.tasks.multiclass.config import LossConfig
from edgeward.tasks.training import Loss


def train_counts(data: Prepared) -> np.ndarray:
    """Return the training images of each class, int64 (n_classes,), all positive.

    Raises
    ------
    UserError
        If a class has no training image.
    """
    counts = np.bincount(data.labels[data.indices("train")], minlength=len(data.classes))
    empty = [name for name, n in zip(data.classes, counts, strict=True) if n == 0]
    if empty:
        raise UserError(
            f"{data.root}: no training image of class {', '.join(empty)}; "
            "add images, merge or drop the class, or change the split in the data config."
        )
    return counts


def class_weights(counts: np.ndarray, beta: float) -> np.ndarray:
    """Return the class-balanced weights, float64 (n_classes,), of mean 1.

    ``(1 - beta) / (1 - beta**n_c)``, normalised to sum to the number of classes: Cui et al., Class-Balanced
    Loss Based on Effective Number of Samples, CVPR 2019, eq. 4-5.
    """
    weights = (1 - beta) / (1 - np.power(beta, counts.astype(np.float64)))
    return weights * len(counts) / weights.sum()


def make_loss(cfg: LossConfig, counts: np.ndarray) -> Loss:
    """Return a function of logits (b, n_classes) and labels int64 (b,) that gives a scalar.

    - cross_entropy: -log p_y.
    - class_balanced: cross entropy with the weights of `class_weights`.
    - logit_adjusted: cross entropy of ``logits + tau log prior``; Menon et al., Long-Tail Learning
      via Logit Adjustment, ICLR 2021, eq. 10.
    - focal: ``-(1 - p_y)**gamma log p_y``; Lin et al., Focal Loss, ICCV 2017, eq. 4.
    """
    smoothing = cfg.label_smoothing
    if cfg.name == "focal":

        def focal(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            nll = functional.cross_entropy(logits, labels, reduction="none")
            return ((-torch.expm1(-nll)) ** cfg.gamma * nll).mean()

        return focal
    adjust = torch.zeros(len(counts))
    weight = None
    if cfg.name == "logit_adjusted":
        adjust = torch.tensor(cfg.tau * np.log(counts / counts.sum()), dtype=torch.float32)
    elif cfg.name == "class_balanced":
        weight = torch.tensor(class_weights(counts, cfg.beta), dtype=torch.float32)

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(
            logits + adjust.to(logits),
            labels,
            weight=None if weight is None else weight.to(logits),
            label_smoothing=smoothing,
        )

    return loss


def logit_shift(
    cfg: LossConfig,
    counts: np.ndarray,
    sampling: Literal["natural", "class_balanced"] = "natural",
) -> np.ndarray:
    """Return what to add to the logits so that their softmax has the natural prevalence.

    Cross entropy and focal loss: 0. Logit adjustment: ``tau log prior``, since it is the adjusted logits
    that fit the data. Class-balanced weights w: ``-log w``, since the minimiser is proportional to
    ``w_y p(y|x)``. Class-balanced sampling acts like weights ``1 / prior`` and adds ``log prior``.

    Returns
    -------
    float64, shape (n_classes,); only differences between classes matter.
    """
    prior = counts / counts.sum()
    shift = np.zeros(len(counts))
    if cfg.name == "logit_adjusted":
        shift = cfg.tau * np.log(prior)
    elif cfg.name == "class_balanced":
        shift = -np.log(class_weights(counts, cfg.beta))
    if sampling == "class_balanced":
        shift = shift + np.log(prior)
    return shift
