"""Shares of units (images, lesions) with a hit, and means of such shares, with score intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeward.records.base import Interval
from edgeward.statistics.clusters import design_effect
from edgeward.statistics.intervals import mover, wilson

ABSENT = Interval(estimate=None, low=None, high=None, n=0, method="none: no such case")
"""The interval of what no case has."""


def proportion(hit: np.ndarray, groups: np.ndarray, pooled: float, level: float) -> Interval:
    """Return the mean of `hit` (bool, n) with a Wilson interval at the effective sample size.

    Parameters
    ----------
    groups : int, shape (n,). pooled : see `edgeward.statistics.clusters.design_effect`.
    """
    n = len(hit)
    if not n:
        return ABSENT
    effect = design_effect(hit.astype(float), groups, pooled)
    low, high = wilson(float(hit.sum()) / effect, n / effect, level)
    method = "Wilson, counts divided by the design effect"
    return Interval.of(float(hit.mean()), low, high, n=n, method=method, design_effect=effect)


def mean_of(rows: Sequence[Interval], method: str) -> Interval:
    """Return the mean over those of independent shares, or differences of shares, that have cases."""
    there = [row for row in rows if row.n]
    if not there:
        return ABSENT
    estimates, low, high = zip(*there, strict=True)
    weights = [1 / len(there)] * len(there)
    limits = mover(weights, estimates, list(zip(low, high, strict=True)))
    n = sum(row.n or 0 for row in there)
    return Interval.of(float(np.mean(estimates)), *limits, n=n, method=f"MOVER of {method}")
