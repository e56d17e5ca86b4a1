"""Text of numbers, ratios of intervals, Pareto fronts: closed forms and properties."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.core.text import count, fixed, listing, milliseconds, p_value, short, span
from edgeward.records.base import Interval
from edgeward.reporting.figures.tradeoff import pareto
from edgeward.reporting.numbers import bracket, bracket_ms, inverse, ratio
from edgeward.reporting.page import whisker


def interval(estimate: float, low: float | None = None, high: float | None = None) -> Interval:
    return Interval(estimate=estimate, low=low, high=high)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.81234, "0.812"), (2.4, "2.40"), (12.34, "12.3"), (123.4, "123"), (0.0123, "0.012"),
     (1234.5, "1234"), (None, "–"), (0, "0")],
)  # fmt: skip
def test_milliseconds(value: float | None, text: str) -> None:
    assert milliseconds(value) == text


def test_fixed_signs() -> None:
    assert fixed(-0.1234) == "−0.123"
    assert fixed(0.1, signed=True) == "+0.100"
    assert fixed(-0.00001, signed=True) == "0.000"
    assert fixed(None) == "–"


def test_brackets() -> None:
    assert bracket(interval(0.5, 0.4, 0.6)) == "[0.400, 0.600]"
    assert bracket(interval(0.5)) == ""
    assert bracket_ms(interval(2.0, 1.5)) == "[1.50, –]"


def test_counts() -> None:
    assert count(12345) == "12\u202f345"
    assert short(1_060_679) == "1.06 M"
    assert p_value(0.0001) == "< 0.001"
    assert listing(["a", "b", "c"]) == "a, b and c"
    assert span([50, None, 50]) == "50"
    assert span([3, 1, 2]) == "1 to 3"
    assert span([]) == "–"


def test_the_inverse_swaps_the_ends() -> None:
    assert tuple(inverse(interval(2.0, 1.0, 4.0))) == (0.5, 0.25, 1.0)
    assert inverse(interval(2.0, None, 4.0)).high is None


positive = st.floats(0.01, 100)


@given(positive, positive, st.floats(0, 0.5), st.floats(0, 0.5))
def test_ratio_covers_all_pairs_of_ends(a: float, b: float, da: float, db: float) -> None:
    top, bottom = interval(a, a * (1 - da), a * (1 + da)), interval(b, b * (1 - db), b * (1 + db))
    found = ratio(top, bottom)
    assert found.estimate == a / b
    _, low, high = found
    for x in list(top)[1:]:
        for y in list(bottom)[1:]:
            assert low - 1e-12 <= x / y <= high + 1e-12 or math.isclose(x / y, high)


def test_ratio_without_parts() -> None:
    assert ratio(Interval(), interval(1.0)) == Interval()
    assert ratio(interval(1.0), interval(0.0)) == Interval()
    assert ratio(interval(3.0), interval(2.0, 1.0, 3.0)) == Interval(estimate=1.5)


points = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12)


@given(points)
def test_pareto_is_what_the_definition_says(found: list[tuple[float, float]]) -> None:
    def beaten(i: int) -> bool:
        x, y = found[i]
        return any(a <= x and b >= y and (a, b) != (x, y) for a, b in found)

    front = pareto(found)
    best = {found[i] for i in range(len(found)) if not beaten(i)}
    assert {found[i] for i in front} == best
    assert [found[i][0] for i in front] == sorted(found[i][0] for i in front)


def test_whisker_places_zero_margin_and_ends() -> None:
    assert whisker(interval(0.0, -0.1, 0.1), 0.05, 0.1) == {
        "low": 2.0, "mid": 50.0, "high": 98.0, "margin": 26.0,
    }  # fmt: skip
    assert whisker(interval(0.0), 0.05, 0.1) is None
