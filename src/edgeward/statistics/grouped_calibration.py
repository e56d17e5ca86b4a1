"""Calibration error of pixels or voxels: many per case, but only as many independent facts as groups."""

from __future__ import annotations

import numpy as np


class GroupedECE:
    """Debiased squared calibration error over fixed bins, and its replicates under weights of groups.

    ``sum_b n_b/n (gap_b^2 - var_b)`` with ``gap_b`` the mean of confidence - correct in bin b and var_b
    its cluster-robust variance over the g groups in the bin,
    ``g/(g-1) sum_groups (their sum of residuals - gap_b their count)^2 / n_b^2``: what a perfectly
    calibrated model would have for a squared gap on average. With one pixel per group and equal
    confidences in a bin this is the estimator of `edgeward.statistics.calibration.debiased_square`.

    A resample adds noise to gaps that hold noise already, so the replicates come, as there, from a world
    in which the gaps are the sample's, shrunk to the debiased mean square.

    Parameters
    ----------
    sums : float64 (n, bins, 3): per case and bin the pixels, the sum of confidences, the right ones.
    groups : int, shape (n,).

    Attributes
    ----------
    square : the debiased square; negative for a well calibrated model now and then.
    plain : mean absolute gap, the usual binned ECE.
    """

    def __init__(self, sums: np.ndarray, groups: np.ndarray) -> None:
        _, self._first, member = np.unique(groups, return_index=True, return_inverse=True)
        total = np.zeros((len(self._first), *sums.shape[1:]))
        np.add.at(total, member, sums)
        self._count, self._residual = total[..., 0], total[..., 1] - total[..., 2]
        one = np.ones((len(groups), 1))
        self._noise = np.zeros(sums.shape[1])
        self.square = float(self.squares(one)[0])
        self.plain = float(self.plains(one)[0])
        count, residual = self._count.sum(axis=0), self._residual.sum(axis=0)
        gap = np.divide(residual, count, out=np.zeros_like(residual), where=count > 0)
        biased = float(count @ gap**2 / count.sum()) if count.any() else 0.0
        kept = np.sqrt(max(self.square, 0.0) / biased) if biased > 0 else 1.0
        self._noise = (1 - min(kept, 1.0)) * gap

    def squares(self, weights: np.ndarray) -> np.ndarray:
        """Return debiased squares, float64 (b,), under weights of the cases (n, b), equal within groups."""
        w = weights[self._first].astype(np.float64)
        residual = self._residual - self._noise * self._count
        n, r = self._count.T @ w, residual.T @ w
        spread = [(a * b).T @ w for a, b in ((residual, residual), (residual, self._count))]
        spread.append((self._count**2).T @ w)
        drawn = (self._count > 0).astype(np.float64).T @ w
        with np.errstate(invalid="ignore", divide="ignore"):
            gap = r / n
            about = spread[0] - 2 * gap * spread[1] + gap**2 * spread[2]
            variance = about / n**2 * drawn / np.maximum(drawn - 1, 1)
            terms = np.where(n > 0, n * (gap**2 - variance), 0.0)
            result: np.ndarray = terms.sum(axis=0) / n.sum(axis=0)
        return result

    def plains(self, weights: np.ndarray) -> np.ndarray:
        """Return mean absolute gaps, float64 (b,); arguments as for `squares`."""
        w = weights[self._first].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            gaps = np.abs(self._residual.T @ w).sum(axis=0)
            result: np.ndarray = gaps / (self._count.T @ w).sum(axis=0)
        return result
