"""Whether differences found in several independent groups are one and the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import chdtrc

from edgeward.records.base import Interval
from edgeward.statistics.intervals import z_value


def cochran(differences: Sequence[Interval], level: float) -> tuple[float, float]:
    """Return Cochran's Q and its p-value, chi-squared with one degree of freedom less than there are differences.

    ``Q = sum w_i (d_i - d)^2`` with ``w_i = 1 / se_i^2`` and d the weighted mean (Cochran, Biometrics 10 (1954) 101-129).
    The standard errors are taken back from the intervals, on the side towards the mean (as MOVER does), so that score
    intervals, which are not symmetric, keep what they know of few cases.

    Parameters
    ----------
    differences : bounded, of independent groups, at least 2. level : of their intervals.
    """
    d, low, high = (np.array(part) for part in zip(*differences, strict=True))
    z = z_value(level)
    se = np.maximum((high - low) / (2 * z), 1e-12)
    for _ in range(2):  # once more with the sides known
        mean = float(np.sum(d / se**2) / np.sum(1 / se**2))
        se = np.maximum(np.where(mean > d, high - d, d - low) / z, 1e-12)
    q = float(np.sum(((d - mean) / se) ** 2))
    return q, float(chdtrc(len(d) - 1, q))
