"""Calibration error of the decision's confidence: binned, debiased, classwise and smooth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CLASSIC_BINS = 15
_MESH = 4096
_SMALLEST_BANDWIDTH = 1e-3


def equal_mass_bins(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Assign each image to one of at most `bins` bins of nearly equal count.

    Equal confidences share a bin, so that the result does not depend on the order of the images;
    with many ties there are fewer bins.

    Parameters
    ----------
    confidence : float, shape (n,).
    bins : number of bins asked for.

    Returns
    -------
    int64, shape (n,): bin numbers 0, 1, ... without gaps, ascending with confidence.
    """
    ranked = np.sort(confidence)
    starts = ranked[np.arange(1, bins) * len(ranked) // bins]
    bin_of = np.searchsorted(np.unique(starts), confidence, side="right")
    return np.unique(bin_of, return_inverse=True)[1].astype(np.int64)


def equal_width_bins(confidence: np.ndarray, bins: int = CLASSIC_BINS) -> np.ndarray:
    """Assign values in [0, 1] to bins (i/bins, (i+1)/bins]; 0 is in the first, 1.0 in the last."""
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    return np.searchsorted(edges, confidence, side="left").astype(np.int64)


def binned_ece(confidence: np.ndarray, outcome: np.ndarray, bin_of: np.ndarray) -> float:
    """Return sum_b n_b/n |mean outcome - mean confidence| (Naeini et al., AAAI 2015; Guo et al. 2017)."""
    return float(np.abs(np.bincount(bin_of, confidence - outcome)).sum() / len(confidence))


def residual_inflation(residual: np.ndarray, bin_of: np.ndarray, groups: np.ndarray) -> float:
    """Return how much the variance of bin means grows because images of one group fall together.

    Ratio of the cluster-robust to the independent sum of squares about the bin means, at least 1;
    exactly 1 if every group has one image.
    """
    count = np.bincount(bin_of)
    centred = residual - (np.bincount(bin_of, residual) / count)[bin_of]
    pair = np.unique(groups * len(count) + bin_of, return_inverse=True)[1]
    independent = float(np.sum(centred**2))
    clustered = float(np.sum(np.bincount(pair, centred) ** 2))
    return max(1.0, clustered / independent) if independent > 0 else 1.0


def debiased_square(
    residual_sum: np.ndarray, correct_sum: np.ndarray, count: np.ndarray, inflation: float
) -> np.ndarray:
    """Return the debiased squared calibration error of binned sums.

    ``sum_b n_b/n [(conf_b - acc_b)^2 - D acc_b (1 - acc_b)/(n_b - 1)]``: the second term is the
    expectation of the first under perfect calibration. Bröcker, Clim. Dyn. 39 (2012) 655-667; Ferro &
    Fricker, Q. J. R. Meteorol. Soc. 138 (2012) 1954-1960; Roelofs et al., AISTATS 2022, arXiv
    2012.08668, who find it the least biased with equal-mass bins. D (published: 1) is ours, for
    clustered images.

    Parameters
    ----------
    residual_sum, correct_sum, count : float, shape (bins, ...): sums of confidence - correct, of
        correct, and of 1 per bin (bootstrap weights included).
    inflation : D, from `residual_inflation`.

    Returns
    -------
    float, shape (...): may be negative for a well calibrated model.
    """
    filled = np.maximum(count, 1)
    accuracy = correct_sum / filled
    noise = inflation * accuracy * (1 - accuracy) / np.maximum(count - 1, 1)
    terms = count * ((residual_sum / filled) ** 2 - noise)
    result: np.ndarray = terms.sum(axis=0) / count.sum(axis=0)
    return result


class DebiasedECE:
    """Debiased squared ECE over equal-mass bins of a sample, and its replicates under weights.

    The ECE reported is the root of the square where that is positive, else 0.

    A resample adds noise to bin gaps that hold noise already, so its squared gaps spread wider than the
    sample's do. The replicates therefore come from a world in which the gaps are the sample's, shrunk
    such that their mean square is the debiased one; only what resampling adds is noise.

    Parameters
    ----------
    confidence : float, shape (n,).
    correct : bool, shape (n,).
    groups : int, shape (n,).
    bins : number of bins asked for.
    """

    def __init__(
        self, confidence: np.ndarray, correct: np.ndarray, groups: np.ndarray, bins: int
    ) -> None:
        bin_of = equal_mass_bins(confidence, bins)
        residual = confidence - correct
        self.inflation = residual_inflation(residual, bin_of, groups)
        hot = np.arange(bin_of.max() + 1)[:, None] == bin_of
        self.features = np.vstack([hot * residual, hot * correct, hot])
        count = np.bincount(bin_of)
        sums = np.bincount(bin_of, residual)
        self.square = float(
            debiased_square(sums, np.bincount(bin_of, correct), count, self.inflation)
        )
        gap = sums / count
        plain = float(count @ gap**2) / len(confidence)
        kept = np.sqrt(max(self.square, 0.0) / plain) if plain > 0 else 1.0
        self._noise = ((1 - min(kept, 1.0)) * gap)[:, None]

    def replicates(self, sums: np.ndarray) -> np.ndarray:
        """Return squares (b,) from weighted sums of `features`, shape (3 bins, b)."""
        residual, correct, count = np.split(sums, 3)
        return debiased_square(residual - count * self._noise, correct, count, self.inflation)


@dataclass(frozen=True)
class SmoothECE:
    """Smooth ECE and the bandwidth at which it was found."""

    value: float
    bandwidth: float


def smooth_ece(confidence: np.ndarray, correct: np.ndarray) -> SmoothECE:
    """Return the smooth expected calibration error of Błasiok & Nakkiran, ICLR 2024, arXiv 2309.12236.

    The residual ``confidence - correct`` is smoothed with a Gaussian reflected at 0 and 1 and
    integrated in absolute value; the bandwidth s is the fixed point ``smECE_s = s`` (their section
    3.2). The reflected Gaussian is diagonal in the cosine basis, where it scales the k-th coefficient
    by exp(-(pi k s)^2/2), so one transform serves all bandwidths.

    Parameters
    ----------
    confidence : float, shape (n,), in [0, 1].
    correct : bool or float, shape (n,).
    """
    position = np.clip(confidence, 0, 1) * _MESH
    left = np.minimum(position.astype(np.int64), _MESH - 1)
    right_share = position - left
    residual = (confidence - correct) / len(confidence)
    mass = np.bincount(left, residual * (1 - right_share), _MESH + 1)
    mass += np.bincount(left + 1, residual * right_share, _MESH + 1)
    # Cosine coefficients sum_j mass_j cos(pi k j / mesh), by the transform of the even extension.
    even = np.concatenate([mass, mass[-2:0:-1]])
    even[1:_MESH] /= 2
    even[_MESH + 1 :] /= 2
    coefficient = np.fft.rfft(even).real
    frequency = np.pi * np.arange(len(coefficient))

    def at(bandwidth: float) -> float:
        damped = coefficient * np.exp(-((frequency * bandwidth) ** 2) / 2)
        # Density on the mesh: c_0 + 2 sum_k c_k cos(pi k t), the inverse transform times its length.
        density = np.fft.irfft(damped)[: _MESH + 1] * (2 * _MESH)
        return float(np.trapezoid(np.abs(density), dx=1 / _MESH))

    low, high = _SMALLEST_BANDWIDTH, 1.0
    if at(low) <= low:
        return SmoothECE(at(low), low)
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle) > middle else (low, middle)
    return SmoothECE(at(high), high)


def smooth_features(confidence: np.ndarray, correct: np.ndarray, bandwidth: float) -> np.ndarray:
    """Return damped cosine features, float32 (k, n), whose weighted sums give smooth ECE at a bandwidth.

    ``smooth_from_sums(features @ weights, total weight)`` is the smooth ECE of the weighted sample.
    """
    k = np.arange(min(int(np.ceil(4 / (np.pi * bandwidth))), 256) + 1)
    damping = np.exp(-((np.pi * k * bandwidth) ** 2) / 2) * np.where(k == 0, 1, 2)
    features = np.cos(np.pi * np.outer(k, confidence)) * damping[:, None]
    result: np.ndarray = (features * (confidence - correct)).astype(np.float32)
    return result


def smooth_from_sums(sums: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return smooth ECE, shape (b,), from weighted feature sums (k, b) and total weights (b,)."""
    mesh = np.linspace(0, 1, 4 * len(sums) + 1)
    basis = np.cos(np.pi * np.outer(mesh, np.arange(len(sums)))).astype(np.float32)
    weight = np.full(len(mesh), 1 / (len(mesh) - 1), dtype=np.float32)
    weight[[0, -1]] /= 2
    result: np.ndarray = weight @ np.abs(basis @ sums) / total
    return result
