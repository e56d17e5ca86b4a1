"""Losses for findings that are called each on its own, and the shift of the logits that each one causes."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from edgeward.core.errors import UserError
from edgeward.data.store import Prepared
from edgeward.tasks.batches import Sampling
from edgeward.tasks.multilabel.config import LossConfig
from edgeward.tasks.training import Loss


def train_counts(data: Prepared) -> np.ndarray:
    """Return the training images that are known to have each finding, and those known to lack it, int64 (2, c), all positive.

    Raises
    ------
    UserError
        If there is no image of one of the two kinds.
    """
    values = data.truth[data.indices("train")]
    counts = np.stack([(values == 1).sum(axis=0), (values == 0).sum(axis=0)])
    empty = [name for name, n in zip(data.classes, counts.T, strict=True) if not n.all()]
    if empty:
        raise UserError(
            f"{data.root}: the training images do not hold cases with and without {', '.join(empty)}; add images, or leave the finding "
            "out in the data config."
        )
    return counts


def class_weights(counts: np.ndarray, beta: float) -> np.ndarray:
    """Return the weights of cases with and without each finding, float64 (2, c).

    ``(1 - beta) / (1 - beta**count)``, the inverse effective number of Cui et al., CVPR 2019, eq. 3; scaled so that the mean weight over
    the training cases is 1, finding by finding.
    """
    weights = (1 - beta) / -np.expm1(np.log(beta) * counts) if beta else np.ones_like(counts, float)
    result: np.ndarray = weights * counts.sum(axis=0) / (weights * counts).sum(axis=0)
    return result


def ldam_margins(counts: np.ndarray, largest: float) -> np.ndarray:
    """Return the margins ``C / n**(1/4)`` of the findings, the rarest one's being `largest`: Cao et al., NeurIPS 2019, eq. 13."""
    result: np.ndarray = largest * (counts[0].min() / counts[0]) ** 0.25
    return result


def make_loss(cfg: LossConfig, counts: np.ndarray) -> Loss:
    """Return a function of logits (b, c) and findings int8 (b, c) that gives a scalar: the mean over the findings that are known.

    With p the sigmoid of a logit z:

    - binary_cross_entropy: ``-log p`` with the finding, ``-log(1 - p)`` without.
    - binary_class_balanced: the same with the weights of `class_weights`.
    - binary_logit_adjusted: the same of ``z + tau log(prior / (1 - prior))``: Menon et al., ICLR 2021, eq. 10, for two classes.
    - binary_focal: ``-(1 - p)**gamma log p`` and ``-p**gamma log(1 - p)``: Lin et al., ICCV 2017, eq. 4.
    - asymmetric: the same with a gamma for each side, and with ``max(p - clip, 0)`` for p without the finding: Ridnik et al., ICCV
      2021, eq. 5-7.
    - binary_ldam: cross entropy of ``z - margin`` with the finding, of z without.

    Parameters
    ----------
    counts : of `train_counts`.
    """
    with_, without = counts.astype(np.float64)
    adjust, margin = np.zeros(len(with_)), np.zeros(len(with_))
    weights = np.ones_like(counts, dtype=np.float64)
    positive, negative, clip = 0.0, 0.0, 0.0
    if cfg.name == "binary_logit_adjusted":
        adjust = cfg.tau * np.log(with_ / without)
    elif cfg.name == "binary_class_balanced":
        weights = class_weights(counts, cfg.beta)
    elif cfg.name == "binary_ldam":
        margin = ldam_margins(counts, cfg.margin)
    elif cfg.name == "binary_focal":
        positive = negative = cfg.gamma
    elif cfg.name == "asymmetric":
        positive, negative, clip = cfg.gamma_positive, cfg.gamma_negative, cfg.clip
    moved, pushed, weight = (
        torch.tensor(x, dtype=torch.float32) for x in (adjust, margin, weights)
    )

    def loss(logits: torch.Tensor, findings: torch.Tensor) -> torch.Tensor:
        truth = (findings == 1).to(logits)
        z = logits + moved.to(logits) - pushed.to(logits) * truth
        one = functional.logsigmoid(z)
        if clip:
            other = torch.log1p(-(torch.sigmoid(z) - clip).clamp(min=0.0))
        else:
            other = functional.logsigmoid(-z)
        # A power of 1 - exp(log p), as 1 - p would lose its digits where p is near 1.
        hard = (-torch.expm1(one)) ** positive if positive else 1.0
        easy = (-torch.expm1(other)) ** negative if negative else 1.0
        w = weight.to(logits)
        terms = -(truth * w[0] * hard * one + (1 - truth) * w[1] * easy * other)
        known = (findings >= 0).to(logits)
        return (terms * known).sum() / known.sum().clamp(min=1.0)

    return loss


def cross_entropy(logits: torch.Tensor, findings: torch.Tensor) -> torch.Tensor:
    """Return the mean binary cross entropy over the findings that are known."""
    terms = functional.binary_cross_entropy_with_logits(
        logits, (findings == 1).to(logits), reduction="none"
    )
    known = (findings >= 0).to(logits)
    return (terms * known).sum() / known.sum().clamp(min=1.0)


def logit_shift(
    cfg: LossConfig, counts: np.ndarray, drawn: np.ndarray, sampling: Sampling = "natural"
) -> np.ndarray:
    """Return what to add to the logits so that their sigmoid has the natural prevalence, float64 (c,).

    Logit adjustment: ``tau log(prior / (1 - prior))``, since it is the adjusted logits that fit the data. Class-balanced weights:
    ``log(w without / w with)``, since the minimiser has the odds of the data times ``w with / w without``. All others: 0, which is right
    for cross entropy, and for the others the best that can be said: their minimiser is no probability. Sampling by strata moves the odds
    from those of the data to those of what is drawn, about alike for every case.

    Parameters
    ----------
    counts : of `train_counts`. drawn : float (c,), share of what is drawn in training that has each finding.
    """
    shift = np.zeros(counts.shape[1])
    odds = np.log(counts[0] / counts[1])
    if cfg.name == "binary_logit_adjusted":
        shift = cfg.tau * odds
    elif cfg.name == "binary_class_balanced":
        weights = class_weights(counts, cfg.beta)
        shift = np.log(weights[1] / weights[0])
    if sampling == "class_balanced":
        shift = shift + odds - np.log(drawn / (1 - drawn))
    return shift
