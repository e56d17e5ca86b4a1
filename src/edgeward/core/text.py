"""Numbers and lists as people read them: text with a sensible number of digits. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

MISSING = "–"


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


def listing(items: Sequence[str]) -> str:
    """Join names as in a sentence: a, b and c."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"
