"""The metrics of findings, and their replicates under weights of the cases.

Fixed at the original sample: the edges of the calibration bins. So a resample is a matrix product of weights with features of the
cases, plus two cumulative sums per finding for AUC and average precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from edgeward.core.errors import UserError
from edgeward.statistics import calibration
from edgeward.statistics.grouped_calibration import GroupedECE
from edgeward.statistics.ranking import PrecisionTable, RankTable
from edgeward.tasks.assessment import mean_there

OF_CLASS = {
    "recall": "recall", "class_specificity": "specificity", "auc": "auc", "ap": "ap", "f1": "f1", "class_ece": "ece",
    "class_brier": "brier",
}  # fmt: skip
"""Metrics of each finding, arrays (c, ..): as they are called here, and as metrics of a class."""
Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Scores:
    """One model on n images and c findings, arrays of shape (n, c).

    Attributes
    ----------
    called : bool, logit above 0. natural : float64, logits whose sigmoid is the probability at the natural prevalence.
    p : float64, that probability. known, truth : bool; an unknown finding is not true.
    """

    called: np.ndarray
    natural: np.ndarray
    p: np.ndarray
    known: np.ndarray
    truth: np.ndarray

    @classmethod
    def of(cls, logits: np.ndarray, findings: np.ndarray, shift: np.ndarray) -> Self:
        """Score logits, float (n, c), against findings, int8 (n, c): 1, 0, or -1 if not known.

        Parameters
        ----------
        shift : float (c,), added to the logits for probabilities, not for the decision.

        Raises
        ------
        UserError
            If shapes do not fit, there is no image, or a logit is not finite.
        """
        if logits.shape != findings.shape or logits.ndim != 2:
            raise UserError(f"Logits have shape {logits.shape}; needed: {findings.shape}.")
        if not len(logits):
            raise UserError("There is no image to assess; the split must hold some.")
        bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(bad):
            raise UserError(
                f"The model gives NaN or infinite logits for {len(bad)} of {len(logits)} images "
                f"(first: number {bad[0]} of the split). Look at the training and compression logs."
            )
        natural = np.asarray(logits, np.float64) + np.asarray(shift, np.float64)
        p = np.exp(-np.logaddexp(0.0, -natural))
        return cls(logits > 0, natural, p, findings >= 0, findings == 1)

    @property
    def log_p(self) -> np.ndarray:
        """The logarithm of the probabilities."""
        result: np.ndarray = -np.logaddexp(0.0, -self.natural)
        return result

    @property
    def right(self) -> np.ndarray:
        """Which calls are right; those of unknown findings are not."""
        result: np.ndarray = self.known & (self.called == self.truth)
        return result


class Metrics:
    """One model's metrics that are resampled: the estimates, and their replicates under blocks of weights.

    Parameters
    ----------
    groups : int (n,). rare : numbers of the rare findings. bins : equal-mass bins of the debiased ECE.

    Attributes
    ----------
    estimates : metric -> value; those of `OF_CLASS` have shape (c,), NaN where a sample lacks what they are of. The debiased ECE are
        signed squares.
    bin_of : int64 (n, c), the bin of each probability in the ECE of all findings.
    """

    def __init__(self, scores: Scores, groups: np.ndarray, rare: np.ndarray, bins: int) -> None:
        self.scores, self._rare, self._c = scores, rare, scores.p.shape[1]
        known, truth, called, p = scores.known, scores.truth, scores.called, scores.p
        self._rows: list[np.ndarray] = []
        self._at: dict[str, slice] = {}
        self._used = 0
        entropy = np.logaddexp(0.0, scores.natural) - truth * scores.natural
        square = (p - truth) ** 2
        self._add("positive", truth)
        self._add("negative", known & ~truth)
        self._add("hit", truth & called)
        self._add("alarm", known & ~truth & called)
        self._add("square", known * square)
        self._add("entropy", (known * entropy).sum(axis=1)[:, None])
        self._add("exact", (scores.right | ~known).all(axis=1)[:, None])
        self._add("one", np.ones((len(p), 1)))
        wide = calibration.equal_width_bins(p)
        residual = np.where(known, p - truth, 0.0)
        self._add("wide", _sums(residual, wide, calibration.CLASSIC_BINS))
        self._ranks: dict[int, tuple[RankTable, PrecisionTable]] = {}
        self._single: dict[int, calibration.DebiasedECE] = {}
        for k in range(self._c):
            rows = np.flatnonzero(known[:, k])
            z, y = scores.natural[rows, k], truth[rows, k]
            if y.any():
                self._ranks[k] = RankTable.of(z, y), PrecisionTable.of(z, y)
            if len(rows):
                one = calibration.DebiasedECE(p[rows, k], y, groups[rows], bins)
                self._single[k] = one
                features = np.zeros((len(p), len(one.features)))
                features[rows] = one.features.T
                self._add(f"ece {k}", features)
        self._matrix = np.concatenate(self._rows, axis=1).astype(np.float32).T.copy()
        del self._rows
        self._pooled = self._pool(groups, bins)
        whole = self.replicates(np.ones((len(p), 1)))
        self.estimates = {name: value[..., 0] for name, value in whole.items()}
        self.estimates["ece"] = np.asarray(self._pooled.square)
        self.estimates["class_ece"] = np.array(
            [self._single[k].square if k in self._single else np.nan for k in range(self._c)]
        )

    def _add(self, name: str, block: np.ndarray) -> None:
        """Take features (n, m) of the cases."""
        self._rows.append(np.asarray(block, dtype=np.float64))
        self._at[name] = slice(self._used, self._used + block.shape[1])
        self._used = self._at[name].stop

    def _pool(self, groups: np.ndarray, bins: int) -> GroupedECE:
        """Return the ECE of all findings: many calls per case, as many independent facts as groups."""
        s = self.scores
        if not s.known.any():
            return GroupedECE(np.zeros((len(s.p), 1, 3)), groups)
        of = np.zeros(s.p.shape, np.int64)
        of[s.known] = calibration.equal_mass_bins(s.p[s.known], bins)
        width = int(of.max()) + 1
        self.bin_of = of
        parts = (s.known.astype(float), np.where(s.known, s.p, 0.0), s.truth.astype(float))
        return GroupedECE(np.stack([_sums(part, of, width) for part in parts], axis=-1), groups)

    def replicates(self, weights: np.ndarray) -> Values:
        """Return the metrics of `estimates` under weights (n, b), the resamples on the last axis."""
        sums = self._matrix @ weights
        at = {name: sums[rows].astype(np.float64) for name, rows in self._at.items()}
        positive, negative, hit, alarm = (at[k] for k in ("positive", "negative", "hit", "alarm"))
        known = positive + negative
        total = known.sum(axis=0)
        b = weights.shape[1]
        with np.errstate(invalid="ignore", divide="ignore"):
            f1 = np.where(positive > 0, 2 * hit / (positive + hit + alarm), np.nan)
            recall, specificity = hit / positive, 1 - alarm / negative
            out: Values = {
                "recall": recall,
                "class_specificity": specificity,
                "f1": f1,
                "class_brier": at["square"] / known,
                "nll": at["entropy"][0] / total,
                "brier": at["square"].sum(axis=0) / total,
                "label_accuracy": (hit + negative - alarm).sum(axis=0) / total,
                "exact_match": at["exact"][0] / at["one"][0],
                "ece_15bin": np.abs(at["wide"]).sum(axis=0) / total,
            }
        out |= {
            "sensitivity": mean_there(recall),
            "specificity": mean_there(specificity),
            "balanced_accuracy": mean_there(np.concatenate([recall, specificity])),
            "rare_recall": mean_there(recall[self._rare]),
        }
        out["auc"] = np.full((self._c, b), np.nan)
        out["ap"] = np.full((self._c, b), np.nan)
        out["class_ece"] = np.full((self._c, b), np.nan)
        for k, (ranks, precision) in self._ranks.items():
            mine = weights[self.scores.known[:, k]]
            out["auc"][k], out["ap"][k] = ranks.replicates(mine), precision.replicates(mine)
        for k, one in self._single.items():
            out["class_ece"][k] = one.replicates(at[f"ece {k}"])
        out["ece"] = self._pooled.squares(weights)
        out |= {
            "auc_macro": mean_there(out["auc"]),
            "map": mean_there(out["ap"]),
            "f1_macro": mean_there(f1),
        }
        return out


def _sums(values: np.ndarray, bin_of: np.ndarray, bins: int) -> np.ndarray:
    """Sum values (n, c) of each case over the findings of each bin, int (n, c): float64 (n, bins)."""
    n = len(values)
    flat = (np.arange(n)[:, None] * bins + bin_of).ravel()
    return np.bincount(flat, values.ravel(), minlength=n * bins).reshape(n, bins)
