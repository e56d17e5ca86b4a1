"""Clustered, stratified bootstrap of all metrics of one or two models on the same resamples.

Resampled: groups (lesions, patients) with replacement, within strata; a group's images come along
together, as an integer weight. Fixed at the original sample: the edges of the calibration bins, the
bandwidth of smooth ECE, the temperature. So a resample is a matrix product of weights with features
that are computed once, plus one cumulative sum per class for AUC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from edgeward.statistics import calibration
from edgeward.statistics.ranking import RankTable, auc
from edgeward.tasks.multiclass.scores import Scores

_BLOCK = 100


def strata(labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Assign each group to the rarest class among its images.

    A group usually has one class. Where it spans several, the rarest decides, so that every resample
    holds as many groups with the rare class as the sample.

    Parameters
    ----------
    labels, groups : int, shape (n,).

    Returns
    -------
    member : int64 (n,), group number 0..g-1 of each image, in the order of the group ids.
    stratum : int64 (g,), class of each group.
    """
    _, member = np.unique(groups, return_inverse=True)
    count = np.bincount(labels)
    order = np.argsort(count, kind="stable")  # rarest class first
    rank = np.empty(len(count), dtype=np.int64)
    rank[order] = np.arange(len(count))
    best = np.full(member.max() + 1, len(count), dtype=np.int64)
    np.minimum.at(best, member, rank[labels])
    return member, order[best]


def resample_weights(
    labels: np.ndarray, groups: np.ndarray, resamples: int, seed: int
) -> Iterator[np.ndarray]:
    """Yield blocks of image weights, float32 (n, b), whole numbers; b sums to `resamples`.

    The weights depend on the group ids and the seed only, not on the order of the images, and are the
    same for every model.
    """
    member, stratum = strata(labels, groups)
    sets = [np.flatnonzero(stratum == s) for s in np.unique(stratum)]
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _BLOCK):
        b = min(_BLOCK, resamples - start)
        weight = np.empty((len(stratum), b), dtype=np.float32)
        for rows in sets:
            g = len(rows)
            drawn = rng.integers(g, size=(b, g)) + np.arange(b)[:, None] * g
            weight[rows] = np.bincount(drawn.ravel(), minlength=b * g).reshape(b, g).T
        yield weight[member]


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


class Arm:
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
            "auc": np.array(
                [
                    auc(scores.log_odds[:, k], onehot[k]) if self.present[k] else np.nan
                    for k in range(classes)
                ]
            ),
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

    def mean(values: np.ndarray) -> np.ndarray:
        there = np.isfinite(values)
        with np.errstate(invalid="ignore", divide="ignore"):
            result: np.ndarray = np.where(there, values, 0).sum(axis=0) / there.sum(axis=0)
        return result

    return {
        "accuracy": accuracy,
        "balanced_accuracy": mean(per_class["recall"]),
        "rare_recall": mean(per_class["recall"][rare]),
        "auc_macro": mean(per_class["auc"]),
    }


SQUARED = ("ece", "ece_temperature_scaled")
UPWARD_BIASED = (*SQUARED, "ece_15bin", "smooth_ece", "classwise_ece")


def run(
    arms: dict[str, Arm], labels: np.ndarray, groups: np.ndarray, resamples: int, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Bootstrap all arms on the same resamples.

    Calibration errors grow under resampling, because it adds noise to bins that |.| and squares turn
    into error. Their replicates are therefore shifted to have the estimate as their mean, on the
    squared scale for the debiased ones, before the root is taken.

    Returns
    -------
    arm -> metric -> replicates, float64 (resamples,) or (c, resamples), on the reported scale.
    """
    parts: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in arms}
    for weights in resample_weights(labels, groups, resamples, seed):
        for name, arm in arms.items():
            parts[name].append(arm.replicates(weights))
    out: dict[str, dict[str, np.ndarray]] = {}
    for name, arm in arms.items():
        out[name] = {}
        for metric in parts[name][0]:
            values = np.concatenate([part[metric] for part in parts[name]], axis=-1).astype(
                np.float64
            )
            if metric in UPWARD_BIASED:
                shift = arm.estimates[metric] - values.mean(axis=-1)
                values = np.maximum(values + shift[..., None], 0.0)
            out[name][metric] = np.sqrt(values) if metric in SQUARED else values
    return out
