"""How much less images of one group (lesion, patient) tell than independent images."""

from __future__ import annotations

import numpy as np


def cluster_correlation(values: np.ndarray, groups: np.ndarray) -> float:
    """Return the intra-cluster correlation by one-way analysis of variance.

    Parameters
    ----------
    values : float, shape (n,), centred per class if several classes are pooled.
    groups : int, shape (n,).

    Returns
    -------
    Estimate in [0, 1]; NaN if it cannot be had (no group with two images, or all values equal).
    Donner, Int. Stat. Rev. 54 (1986) 67-82, with unequal group sizes.
    """
    _, member, size = np.unique(groups, return_inverse=True, return_counts=True)
    n, g = len(values), len(size)
    if g == n or g < 2 or np.ptp(values) == 0:
        return float("nan")
    means = np.bincount(member, values) / size
    between = float(size @ (means - values.mean()) ** 2) / (g - 1)
    within = float(np.sum((values - means[member]) ** 2)) / (n - g)
    typical = (n - float(size @ size) / n) / (g - 1)
    spread = between + (typical - 1) * within
    return float(np.clip((between - within) / spread, 0.0, 1.0)) if spread > 0 else float("nan")


def design_effect(values: np.ndarray, groups: np.ndarray, pooled: float) -> float:
    """Return by how much clustering shrinks the sample: effective size = n / design effect.

    ``1 + rho (m - 1)`` with m the size of the group of a random image (Kish, Survey Sampling 1965,
    chapter 5). rho is the larger of the estimate from these values and of the pooled one, since few
    groups estimate it badly; if neither exists it is 1, the worst case, in which a group tells no more
    than one image.

    Parameters
    ----------
    values : float, shape (n,): right or wrong, gained or lost, ..., within one class.
    groups : int, shape (n,).
    pooled : correlation over all classes, or NaN.
    """
    if not len(values):
        return 1.0
    size = np.unique(groups, return_counts=True)[1]
    m = float(size @ size) / len(values)
    rho = np.fmax(cluster_correlation(values, groups), pooled)
    return 1.0 + (1.0 if np.isnan(rho) else float(rho)) * (m - 1.0)


def pooled_correlation(values: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """Return the intra-cluster correlation of `values` about their class means, over all classes; NaN of none."""
    if not len(values):
        return float("nan")
    _, label = np.unique(labels, return_inverse=True)
    means = np.bincount(label, values) / np.bincount(label)
    return cluster_correlation(values - means[label], groups * (label.max() + 1) + label)
