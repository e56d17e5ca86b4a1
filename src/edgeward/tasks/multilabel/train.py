"""Training for several findings per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from edgeward.data.store import Prepared
from edgeward.statistics.ranking import PrecisionTable, auc
from edgeward.tasks.assessment import mean_there
from edgeward.tasks.batches import Sampling
from edgeward.tasks.config import PatchConfig
from edgeward.tasks.multilabel.config import LossConfig
from edgeward.tasks.multilabel.losses import cross_entropy, logit_shift, make_loss, train_counts
from edgeward.tasks.multilabel.thresholds import best
from edgeward.tasks.training import WholeImages


@dataclass
class Multilabel(WholeImages):
    """Several findings per image, or none; `criterion` takes logits (b, c) and findings int8 (b, c)."""

    threshold: str

    watched: ClassVar[str] = "val_map"
    shown: ClassVar[dict[str, str]] = {
        "mAP": "val_map",
        "AUC": "val_auc",
        "rare recall": "val_rare_recall",
    }

    def metrics(self, observed: Sequence[tuple[np.ndarray, ...]]) -> dict[str, float]:
        logits, findings = (np.concatenate(parts) for parts in zip(*observed, strict=True))
        rare = [self.data.classes.index(name) for name in self.data.card.rare_classes]
        return validation_metrics(logits, findings, self.shift, rare)

    def thresholds(self, observed: Sequence[tuple[np.ndarray, ...]]) -> np.ndarray:
        logits, findings = (np.concatenate(parts) for parts in zip(*observed, strict=True))
        return best(logits, findings, self.threshold)

    @property
    def sets_thresholds(self) -> bool:
        return self.threshold != "zero"


def training_task(
    data: Prepared,
    loss: LossConfig | None,
    *,
    patches: PatchConfig | None,
    layout: torch.memory_format,
    sampling: Sampling,
) -> Multilabel:
    """See `edgeward.training.task`."""
    if loss is None:
        nothing = np.zeros(data.n_labels)
        return Multilabel(data, cross_entropy, nothing, patches, layout, sampling, "zero")
    counts = train_counts(data)
    shift = logit_shift(loss, counts, _drawn(data), sampling)
    criterion = make_loss(loss, counts)
    return Multilabel(data, criterion, shift, patches, layout, sampling, loss.threshold)


def _drawn(data: Prepared) -> np.ndarray:
    """Return the share with each finding if every stratum is drawn equally often, float64 (c,)."""
    rows = data.indices("train")
    held, strata = data.truth[rows] == 1, data.labels[rows]
    means = [held[strata == s].mean(axis=0) for s in np.unique(strata)]
    return np.mean(means, axis=0).clip(1e-6, 1 - 1e-6)


def validation_metrics(
    logits: np.ndarray, findings: np.ndarray, shift: np.ndarray, rare: Sequence[int]
) -> dict[str, float]:
    """Return ``val_loss, val_auc, val_map, val_rare_recall``.

    A finding is called where its logit is above 0. Loss (mean binary cross entropy over the known findings, nats), AUC and average
    precision are of the probabilities at the natural prevalence, ``sigmoid(logits + shift)``; means over the findings that occur.

    Parameters
    ----------
    logits : float, shape (n, c). findings : int8, shape (n, c); -1 is not known.
    shift : float, shape (c,). rare : the rare findings; their mean recall is `val_rare_recall`.
    """
    natural = logits.astype(np.float64) + shift
    known, truth = findings >= 0, findings == 1
    entropy = np.logaddexp(0.0, natural) - truth * natural
    areas, precisions, recall = [], [], []
    for k in range(logits.shape[1]):
        z, y = natural[known[:, k], k], truth[known[:, k], k]
        areas.append(auc(z, y))
        one = np.ones((len(z), 1))
        precisions.append(float(PrecisionTable.of(z, y).replicates(one)[0]))
        recall.append(float((logits[truth[:, k], k] > 0).mean()) if y.any() else np.nan)
    rare_recall = mean_there(np.array(recall)[list(rare)]) if len(rare) else np.nan
    return {
        "val_loss": float(entropy[known].mean()),
        "val_auc": float(mean_there(np.array(areas))),
        "val_map": float(mean_there(np.array(precisions))),
        "val_rare_recall": float(rare_recall),
    }
