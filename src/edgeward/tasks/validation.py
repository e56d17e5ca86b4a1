"""Validation metrics, in numpy: what each epoch reports and early stopping watches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgeward.core.errors import UserError


def macro_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean one-vs-rest area under the ROC curve over the classes that occur.

    The Mann-Whitney form with mid-ranks for ties (Hanley and McNeil, Radiology 143, 1982).

    Parameters
    ----------
    scores : float, shape (n, n_classes). labels : int, shape (n,).

    Returns
    -------
    In [0, 1]; NaN where fewer than two classes occur.
    """
    areas = []
    for index, column in enumerate(scores.T):
        positive = labels == index
        n_positive = int(positive.sum())
        n_negative = len(labels) - n_positive
        if n_positive and n_negative:
            _, place, ties = np.unique(column, return_inverse=True, return_counts=True)
            mid_rank = np.cumsum(ties) - (ties - 1) / 2
            rank_sum = mid_rank[place[positive]].sum()
            areas.append((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))
    return float(np.mean(areas)) if areas else float("nan")


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
    z = logits.astype(np.float64) + shift
    z -= z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    recall = recalls(logits.argmax(axis=1), labels, logits.shape[1])
    present = recall[list(rare)][~np.isnan(recall[list(rare)])]
    return {
        "val_loss": float(-log_p[np.arange(len(labels)), labels].mean()),
        "val_auc": macro_auc(log_p, labels),
        "val_balanced_accuracy": float(np.nanmean(recall)),
        "val_rare_recall": float(present.mean()) if len(present) else float("nan"),
    }


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


def check_finite(loss: float, epoch: int, step: int) -> None:
    """Raise a UserError if the loss is NaN or infinite."""
    if not math.isfinite(loss):
        raise UserError(
            f"training diverged: loss {loss} in epoch {epoch + 1}, step {step + 1}. "
            "Lower 'lr' or 'grad_clip', or raise 'warmup_fraction', in config/train/."
        )
