"""Training for one class per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional

from edgeward.data.store import Prepared
from edgeward.statistics.ranking import one_vs_rest
from edgeward.statistics.temperature import log_softmax
from edgeward.tasks.batches import Sampling
from edgeward.tasks.config import PatchConfig
from edgeward.tasks.multiclass.config import LossConfig
from edgeward.tasks.multiclass.losses import logit_shift, make_loss, train_counts
from edgeward.tasks.training import WholeImages


@dataclass
class Multiclass(WholeImages):
    """One class per image; `criterion` takes logits (b, n_classes) and labels (b,)."""

    watched: ClassVar[str] = "val_balanced_accuracy"
    shown: ClassVar[dict[str, str]] = {
        "AUC": "val_auc",
        "balanced accuracy": "val_balanced_accuracy",
        "rare recall": "val_rare_recall",
    }

    def metrics(self, observed: Sequence[tuple[np.ndarray, ...]]) -> dict[str, float]:
        logits, labels = (np.concatenate(parts) for parts in zip(*observed, strict=True))
        rare = [self.data.classes.index(name) for name in self.data.card.rare_classes]
        return validation_metrics(logits, labels, self.shift, rare)


def training_task(
    data: Prepared,
    loss: LossConfig | None,
    *,
    patches: PatchConfig | None,
    layout: torch.memory_format,
    sampling: Sampling,
) -> Multiclass:
    """See `edgeward.training.task`."""
    if loss is None:
        plain = functional.cross_entropy
        return Multiclass(data, plain, np.zeros(data.n_labels), patches, layout, sampling)
    counts = train_counts(data)
    shift = logit_shift(loss, counts, sampling)
    return Multiclass(data, make_loss(loss, counts), shift, patches, layout, sampling)


def macro_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean one-vs-rest area under the ROC curve over the classes that occur.

    Parameters
    ----------
    scores : float, shape (n, n_classes). labels : int, shape (n,).

    Returns
    -------
    In [0, 1]; NaN where fewer than two classes occur.
    """
    areas = one_vs_rest(scores, labels)
    there = areas[np.isfinite(areas)]
    return float(there.mean()) if len(there) else float("nan")


def recalls(decisions: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the recall of each class, float64 (n_classes,); NaN where a class does not occur."""
    total = np.bincount(labels, minlength=n_classes)
    hits = np.bincount(labels[decisions == labels], minlength=n_classes)
    with np.errstate(invalid="ignore"):
        return hits / np.where(total == 0, np.nan, total)


def validation_metrics(
    logits: np.ndarray, labels: np.ndarray, shift: np.ndarray, rare: Sequence[int]
) -> dict[str, float]:
    """Return ``val_loss, val_auc, val_balanced_accuracy, val_rare_recall``.

    The decision is ``argmax(logits)``. Loss (mean negative log likelihood, nats) and AUC are of the
    probabilities at the natural prevalence, ``softmax(logits + shift)``.

    Parameters
    ----------
    logits : float, shape (n, n_classes). labels : int64, shape (n,).
    shift : float, shape (n_classes,). rare : the rare classes; their mean recall is `val_rare_recall`.
    """
    log_p = log_softmax(logits.astype(np.float64) + shift)
    recall = recalls(logits.argmax(axis=1), labels, logits.shape[1])
    present = recall[list(rare)][~np.isnan(recall[list(rare)])]
    return {
        "val_loss": float(-log_p[np.arange(len(labels)), labels].mean()),
        "val_auc": macro_auc(log_p, labels),
        "val_balanced_accuracy": float(np.nanmean(recall)),
        "val_rare_recall": float(present.mean()) if len(present) else float("nan"),
    }
