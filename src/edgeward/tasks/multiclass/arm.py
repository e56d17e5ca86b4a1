"""The metrics of scores, and their replicates under weights of the cases.

Fixed at the original sample: the edges of the calibration bins, the bandwidth of smooth ECE, the temperature. So a
resample is a matrix product of weights with features, plus one cumulative sum per class for AUC.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgeward.statistics import calibration
from edgeward.statistics.ranking import RankTable, one_vs_rest
from edgeward.tasks.assessment import mean_there
from edgeward.tasks.multiclass.scores import Scores

PER_CLASS = ("recall", "auc", "classwise_ece")
SQUARED = ("ece", "ece_temperature_scaled")
BIASED = (*SQUARED, "ece_15bin", "smooth_ece", "classwise_ece")


@dataclass
class _Features:
    """Rows of per-image features, stacked into one matrix, with the name of each slice."""

    rows: list[np.ndarray] = field(default_factory=list)
    at: dict[str, slice] = field(default_factory=dict)
    used: int = 0

    def add(self, name: str, block: np.ndarray) -> None:
        self.rows.append(np.atleast_2d(block).astype(np.float32))
        self.at[name] = slice(self.used, self.used + len(self.rows[-1]))
        self.used = self.at[name].stop


def _one_hot(bin_of: np.ndarray) -> np.ndarray:
    return np.arange(bin_of.max() + 1)[:, None] == bin_of


class Metrics:
    """One model's metrics: the estimates, and their replicates under blocks of weights.

    Parameters
    ----------
    scores : the model on the test split.
    labels, groups : int, shape (n,).
    classes : number of classes c.
    rare : class numbers whose mean recall is `rare_recall`.
    bins : equal-mass bins of the debiased ECE.

    Attributes
    ----------
    estimates : metric name -> value; per class `recall`, `auc`, `classwise_ece` have shape (c,), NaN
        for a class that the sample lacks. `ece` and `ece_temperature_scaled` are signed squares here.
    """

    def __init__(
        self, scores: Scores, labels: np.ndarray, groups: np.ndarray, classes: int,
        rare: np.ndarray, bins: int,
    ) -> None:  # fmt: skip
        self.labels, self.rare = labels, rare
        onehot = np.arange(classes)[:, None] == labels
        self.present = onehot.any(axis=1) & ~onehot.all(axis=1)
        self._ranks = {
            k: RankTable.of(scores.log_odds[:, k], onehot[k]) for k in np.flatnonzero(self.present)
        }
        features = _Features()
        features.add("class", onehot)
        features.add("hits", onehot & scores.correct)
        features.add("nll", scores.nll)
        features.add("brier", scores.brier)
        self.estimates: dict[str, np.ndarray] = {
            "nll": np.asarray(scores.nll.mean()),
            "brier": np.asarray(scores.brier.mean()),
            "auc": one_vs_rest(scores.log_odds, labels),
        }
        self._debiased = {
            "ece": calibration.DebiasedECE(scores.confidence, scores.correct, groups, bins),
            "ece_temperature_scaled": calibration.DebiasedECE(
                scores.confidence_scaled, scores.correct, groups, bins
            ),
        }
        for name, ece in self._debiased.items():
            self.estimates[name] = np.asarray(ece.square)
            features.add(name, ece.features)
        width = calibration.equal_width_bins(scores.confidence)
        residual = scores.confidence - scores.correct
        features.add("ece_15bin", _one_hot(width) * residual)
        self.estimates["ece_15bin"] = np.asarray(
            calibration.binned_ece(scores.confidence, scores.correct, width)
        )
        smooth = calibration.smooth_ece(scores.confidence, scores.correct)
        self.bandwidth = smooth.bandwidth
        self.estimates["smooth_ece"] = np.asarray(smooth.value)
        features.add(
            "smooth_ece",
            calibration.smooth_features(scores.confidence, scores.correct, smooth.bandwidth),
        )
        p = np.exp(scores.log_p)
        classwise = []
        for k in range(classes):
            bin_of = calibration.equal_width_bins(p[:, k])
            classwise.append(calibration.binned_ece(p[:, k], onehot[k], bin_of))
            features.add(f"classwise {k}", _one_hot(bin_of) * (p[:, k] - onehot[k]))
        self.estimates["classwise_ece"] = np.array(classwise)
        with np.errstate(invalid="ignore", divide="ignore"):
            self.estimates["recall"] = (onehot & scores.correct).sum(axis=1) / onehot.sum(axis=1)
        self.estimates |= _means(self.estimates, np.asarray(scores.correct.mean()), rare)
        self._at, self._matrix = features.at, np.vstack(features.rows)

    def replicates(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return the metrics of `estimates` under weights (n, b), the resamples on the last axis."""
        sums = self._matrix @ weights
        at = {name: sums[rows] for name, rows in self._at.items()}
        total = at["class"].sum(axis=0)
        out = {"nll": at["nll"][0] / total, "brier": at["brier"][0] / total}
        for name, ece in self._debiased.items():
            out[name] = ece.replicates(at[name])
        out["ece_15bin"] = np.abs(at["ece_15bin"]).sum(axis=0) / total
        out["smooth_ece"] = calibration.smooth_from_sums(at["smooth_ece"], total)
        classes = len(self.present)
        out["classwise_ece"] = np.stack(
            [np.abs(at[f"classwise {k}"]).sum(axis=0) / total for k in range(classes)]
        )
        out["auc"] = np.full((classes, weights.shape[1]), np.nan)
        for k, ranks in self._ranks.items():
            out["auc"][k] = ranks.replicates(weights)
        with np.errstate(invalid="ignore", divide="ignore"):
            out["recall"] = at["hits"] / at["class"]
        return out | _means(out, at["hits"].sum(axis=0) / total, self.rare)


def _means(
    per_class: dict[str, np.ndarray], accuracy: np.ndarray, rare: np.ndarray
) -> dict[str, np.ndarray]:
    """Average over the classes that are there; NaN if none is."""
    return {
        "accuracy": accuracy,
        "balanced_accuracy": mean_there(per_class["recall"]),
        "rare_recall": mean_there(per_class["recall"][rare]),
        "auc_macro": mean_there(per_class["auc"]),
    }
