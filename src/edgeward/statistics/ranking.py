"""Rank-based AUC, and its value under many sets of bootstrap weights at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Return the area under the ROC curve, ties counted half; NaN without positives or negatives.

    The Mann-Whitney form: Hanley & McNeil, Radiology 143 (1982) 29-36.

    Parameters
    ----------
    score : float, shape (n,).
    positive : bool, shape (n,).
    """
    return float(RankTable.of(score, positive).replicates(np.ones((len(score), 1)))[0])


def one_vs_rest(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the AUC of each class against the others, float64 (c,); NaN for a class without positives or negatives.

    Parameters
    ----------
    scores : float, shape (n, c). labels : int, shape (n,).
    """
    return np.array([auc(column, labels == k) for k, column in enumerate(scores.T)])


def cut(scores: np.ndarray, share: float, method: Literal["lower", "higher"]) -> float:
    """Return the score that a share of the scores does not exceed; NaN of none."""
    return float(np.quantile(scores, share, method=method)) if len(scores) else float("nan")


def roc(score: np.ndarray, positive: np.ndarray, most: int) -> np.ndarray:
    """Return points of the ROC curve, from nothing called to everything, and the precision at each.

    Parameters
    ----------
    score : float, shape (n,). positive : bool, shape (n,), with both kinds.
    most : points, about; of all distinct thresholds those at which the curve has moved on most.

    Returns
    -------
    float64 (3, points): false positive rate, true positive rate (recall), precision (1 where nothing is called).
    """
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits = np.cumsum(positive[order])[ends]
    called = ends + 1
    tpr = np.concatenate([[0.0], hits / hits[-1]])
    fpr = np.concatenate([[0.0], (called - hits) / (called - hits)[-1]])
    precision = np.concatenate([[1.0], hits / called])
    way = fpr + tpr
    kept = np.unique(np.searchsorted(way, np.linspace(0, 2, most)).clip(max=len(way) - 1))
    return np.stack([fpr, tpr, precision])[:, kept]


@dataclass(frozen=True)
class PrecisionTable:
    """Average precision, ``sum_t (R_t - R_{t-1}) P_t`` over the distinct scores t from the highest on, as scikit-learn defines it (no
    interpolation); a set of weights costs two passes and no sort.

    Attributes
    ----------
    order : int64 (n,): images by falling score. ends : int64: the last place of each distinct score that positives have.
    positive : bool (n,), in that order.
    """

    order: np.ndarray
    ends: np.ndarray
    positive: np.ndarray

    @classmethod
    def of(cls, score: np.ndarray, positive: np.ndarray) -> PrecisionTable:
        """Sort the scores (n,) of positives (bool, n) and negatives."""
        order = np.argsort(-score, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
        hits = np.cumsum(positive[order])[ends]
        return cls(order, ends[np.diff(hits, prepend=0) > 0], positive[order])

    def replicates(self, weights: np.ndarray) -> np.ndarray:
        """Return the weighted average precision, float64 (b,), for non-negative weights of shape (n, b); NaN without positives."""
        if not len(self.ends):
            return np.full(weights.shape[1], np.nan)
        starts = np.concatenate([[0], self.ends[:-1] + 1])
        drawn = weights[self.order][: self.ends[-1] + 1].astype(np.float64)
        called = np.cumsum(np.add.reduceat(drawn, starts, axis=0), axis=0)
        drawn *= self.positive[: len(drawn), None]
        gained = np.add.reduceat(drawn, starts, axis=0)
        hits = np.cumsum(gained, axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(called > 0, hits / called, 0.0)
            result: np.ndarray = (gained * precision).sum(axis=0) / hits[-1]
        return result


@dataclass(frozen=True)
class RankTable:
    """The order of one score, so that a set of weights costs one pass and no sort.

    Attributes
    ----------
    few, many : int64: image indices of the scarcer side in ascending score, and of the other.
    lo, hi : int64, shape (len(many),): images of `few` that score below, and not above, each.
    few_positive : whether `few` are the positives.
    """

    few: np.ndarray
    many: np.ndarray
    lo: np.ndarray
    hi: np.ndarray
    few_positive: bool

    @classmethod
    def of(cls, score: np.ndarray, positive: np.ndarray) -> RankTable:
        """Sort the scores (n,) of the scarcer of positives (bool, n) and negatives."""
        few_positive = bool(2 * positive.sum() <= len(positive))
        is_few = positive if few_positive else ~positive
        few, many = np.flatnonzero(is_few), np.flatnonzero(~is_few)
        few = few[np.argsort(score[few], kind="stable")]
        lo = np.searchsorted(score[few], score[many], side="left")
        hi = np.searchsorted(score[few], score[many], side="right")
        return cls(few, many, lo, hi, few_positive)

    def replicates(self, weights: np.ndarray) -> np.ndarray:
        """Return the weighted AUC, float64 (b,), for non-negative weights of shape (n, b)."""
        below = np.zeros((len(self.few) + 1, weights.shape[1]), dtype=weights.dtype)
        np.cumsum(weights[self.few], axis=0, out=below[1:])
        few_below = below[self.lo]
        if not np.array_equal(self.lo, self.hi):
            few_below += below[self.hi]
            few_below /= 2
        other = weights[self.many]
        won = np.einsum("ij,ij->j", other, few_below).astype(np.float64)
        pairs = below[-1].astype(np.float64) * other.sum(axis=0, dtype=np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = won / pairs
        return 1 - share if self.few_positive else share
