"""Numbers as people read them: interval records, and text with a sensible number of digits.

Standard library only, since the end summary in the terminal uses it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

MISSING = "–"


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its interval; `n` is the size of the sample behind it."""

    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @property
    def known(self) -> bool:
        """True where there is an estimate."""
        return self.estimate is not None

    @property
    def bounded(self) -> bool:
        """True where there are an estimate and both ends of its interval."""
        return self.estimate is not None and self.low is not None and self.high is not None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def interval(value: Any) -> Interval:
    """Read an interval record, or a plain number, or nothing.

    Parameters
    ----------
    value : ``{"estimate", "low", "high"}`` with optional ``n``; a number; or None.

    Returns
    -------
    The interval; parts that are absent, null or not finite are None.
    """
    if isinstance(value, dict):
        n = _number(value.get("n"))
        return Interval(
            _number(value.get("estimate")),
            _number(value.get("low")),
            _number(value.get("high")),
            None if n is None else int(n),
        )
    return Interval(_number(value))


def ratio(numerator: Interval, denominator: Interval) -> Interval:
    """Return numerator / denominator with an interval from the far ends of both.

    The ends are conservative: with two 95 % intervals they cover at least 90 % (Bonferroni).
    """
    if not numerator.known or not denominator.known or not denominator.estimate:
        return Interval()
    assert numerator.estimate is not None
    estimate = numerator.estimate / denominator.estimate
    if not (numerator.bounded and denominator.bounded) or not (
        denominator.low and denominator.high
    ):
        return Interval(estimate)
    assert numerator.low is not None
    assert numerator.high is not None
    if min(numerator.low, denominator.low) <= 0:
        return Interval(estimate)
    return Interval(estimate, numerator.low / denominator.high, numerator.high / denominator.low)


def fixed(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """Format a number with `digits` decimals and a true minus sign, or a dash if absent."""
    if value is None:
        return MISSING
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def milliseconds(value: float | None) -> str:
    """Format a time in ms with three significant digits, at least to 0.001 and at most to 1."""
    if value is None:
        return MISSING
    if value <= 0:
        return "0"
    digits = min(3, max(0, 2 - math.floor(math.log10(value))))
    return f"{value:.{digits}f}"


def count(value: float | None) -> str:
    """Format a count with thin-space thousands."""
    return MISSING if value is None else f"{round(value):,}".replace(",", "\u202f")


def short(value: float | None) -> str:
    """Format a large count with a unit: 1.06 M, 22.5 M, 3.1 G."""
    if value is None:
        return MISSING
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def bracket(value: Interval, digits: int = 3, *, signed: bool = False) -> str:
    """Format the ends of an interval as ``[low, high]``, or nothing if there are none.

    An end that the sample is too small for is a dash.
    """
    if value.low is None and value.high is None:
        return ""
    return (
        f"[{fixed(value.low, digits, signed=signed)}, {fixed(value.high, digits, signed=signed)}]"
    )


def bracket_ms(value: Interval) -> str:
    """Format the ends of an interval of times in ms, as `bracket` does."""
    if value.low is None and value.high is None:
        return ""
    return f"[{milliseconds(value.low)}, {milliseconds(value.high)}]"


def p_value(value: float | None) -> str:
    """Format a p value with three decimals, or as ``< 0.001``."""
    if value is None:
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def plural(n: int, one: str, many: str | None = None) -> str:
    """Return ``n`` with the noun in the right number."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def span(values: Iterable[float | None]) -> str:
    """Return the range of the values that are there: ``50``, ``1873 to 2011``, or a dash."""
    there = sorted({value for value in values if value is not None})
    if not there:
        return MISSING
    ends = [count(there[0]), *([count(there[-1])] if len(there) > 1 else [])]
    return " to ".join(ends)


def listing(items: list[str]) -> str:
    """Join names as in a sentence: a, b and c."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"
