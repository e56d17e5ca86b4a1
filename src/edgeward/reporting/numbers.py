"""Intervals as people read them, and what is computed of them."""

from __future__ import annotations

from edgeward.core.text import fixed, milliseconds
from edgeward.records.base import Interval


def inverse(value: Interval) -> Interval:
    """Return 1 / value: of a ratio of latencies the speed-up."""
    low, mid, high = (1 / end if end else None for end in (value.high, value.estimate, value.low))
    return Interval(estimate=mid, low=low, high=high, n=value.n)


def ratio(numerator: Interval, denominator: Interval) -> Interval:
    """Return numerator / denominator with an interval from the far ends of both.

    The ends are conservative: with two 95 % intervals they cover at least 90 % (Bonferroni).
    """
    if numerator.estimate is None or not denominator.estimate:
        return Interval()
    estimate = numerator.estimate / denominator.estimate
    ends = (numerator.low, numerator.high, denominator.low, denominator.high)
    low, high, below, above = (0.0 if end is None else end for end in ends)
    if min(low, high, below, above) <= 0:
        return Interval(estimate=estimate)
    return Interval(estimate=estimate, low=low / above, high=high / below)


def bracket(value: Interval, digits: int = 3, *, signed: bool = False) -> str:
    """Format the ends of an interval as ``[low, high]``, or nothing if there are none.

    An end that the sample is too small for is a dash.
    """
    if value.low is None and value.high is None:
        return ""
    low, high = (fixed(end, digits, signed=signed) for end in (value.low, value.high))
    return f"[{low}, {high}]"


def bracket_ms(value: Interval) -> str:
    """Format the ends of an interval of times in ms, as `bracket` does."""
    if value.low is None and value.high is None:
        return ""
    return f"[{milliseconds(value.low)}, {milliseconds(value.high)}]"
