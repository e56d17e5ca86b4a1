"""Prediction sets that hold the true class as often as was promised, class by class."""

from __future__ import annotations

import numpy as np


def thresholds(log_p: np.ndarray, labels: np.ndarray, coverage: float) -> np.ndarray:
    """Return the least log probability with which each class is in the set, float64 (c,); -inf where cases are too few.

    Split conformal prediction with the score ``1 - p`` of the true class, calibrated on each class alone, so that coverage
    holds for each class and not only on average (Vovk, Lindsay et al., Conditional validity of inductive conformal
    predictors, ACML 2012, section 4; Sadinle, Lei & Wasserman, JASA 114 (2019) 223-234). Of n calibration cases of a class the
    ``ceil((n + 1) coverage)``-th smallest score is the limit; with fewer than ``coverage / (1 - coverage)`` there is none, and
    the class is in every set.

    Parameters
    ----------
    log_p : float, shape (n, c), of calibration cases. labels : int, shape (n,); or bool, shape (n, c), where a case may be of several
        classes, each of which is then in the set as often as promised.
    coverage : in (0, 1).
    """
    out = np.full(log_p.shape[1], -np.inf)
    for k in range(log_p.shape[1]):
        of_class = labels == k if labels.ndim == 1 else labels[:, k]
        mine = np.sort(log_p[of_class, k])[::-1]  # the smallest score first
        rank = int(np.ceil((len(mine) + 1) * coverage - 1e-9))
        if rank <= len(mine):
            out[k] = mine[rank - 1]
    return out


def sets(log_p: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Return which classes are in the set of each case, bool (n, c).

    Parameters
    ----------
    log_p : float, shape (n, c). least : float, shape (c,), from `thresholds`.
    """
    result: np.ndarray = log_p >= least
    return result
