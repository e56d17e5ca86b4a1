"""Two independent samples of positive numbers: by what factor is one above the other?"""

from __future__ import annotations

from functools import cache

import numpy as np

from edgeward.records.base import Interval


@cache
def _below(n: int, m: int) -> np.ndarray:
    """Return P(U <= k), k = 0..nm, of Mann and Whitney's U of two samples from one continuous distribution.

    The numbers of orders with U = k are the coefficients of the Gaussian binomial (n + m over n), exact in integers.
    """
    counts = [1] + [0] * (n * m)
    for i in range(1, n + 1):
        for k in range(n * m, m + i - 1, -1):
            counts[k] -= counts[k - m - i]
        for k in range(i, n * m + 1):
            counts[k] += counts[k - i]
    total = sum(counts)
    return np.cumsum([count / total for count in counts])


def factor(mine: np.ndarray, reference: np.ndarray, confidence: float) -> Interval:
    """Return the factor by which `mine` lies above `reference`.

    The estimate is the median of all pairwise ratios (Hodges and Lehmann, on the logarithms); the interval, between two of them,
    inverts Mann and Whitney's exact test, so it assumes no shape of the distributions but that they differ by a factor only, and
    independent values. An end is None where there are too few values.

    Parameters
    ----------
    mine, reference : positive, shapes (n,) and (m,).
    confidence : two-sided level, in (0, 1).
    """
    ratios = np.sort((mine[:, None] / reference[None, :]).ravel())
    tail = (1 - confidence) / 2
    k = int(np.searchsorted(_below(len(mine), len(reference)), tail, side="right"))
    return Interval(
        estimate=float(np.median(ratios)),
        low=float(ratios[k - 1]) if k else None,
        high=float(ratios[-k]) if k else None,
        n=len(mine) + len(reference),
        method=f"pairwise ratios, Mann-Whitney, {confidence:g}",
    )
