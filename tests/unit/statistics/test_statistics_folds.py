"""How much folds differ, against scipy, and what it does to an interval, by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edgeward.records.base import Interval
from edgeward.statistics.folds import Spread, p_value, reach


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=10))
def test_with_equal_weights_it_is_the_standard_error_of_the_mean(values: list[float]) -> None:
    found = Spread.of(np.array(values), np.full(len(values), 7.0))
    assert found.sd == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    assert found.error == pytest.approx(stats.sem(values), abs=1e-12)
    assert found.freedom == len(values) - 1


def test_without_spread_of_cases_it_is_students_interval() -> None:
    d = np.array([0.1, 0.3, -0.2, 0.25, 0.0])
    found = Spread.of(d, np.ones(5))
    mean = d.mean()
    interval = found.widen(Interval.of(mean, mean, mean, method="x"), 0.95, -1.0, 1.0)
    low, high = stats.t.interval(0.95, 4, mean, stats.sem(d))
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_the_p_value_is_that_of_the_t_test_and_says_what_the_interval_says() -> None:
    for d in np.random.default_rng(3).normal(0.1, 0.1, (50, 5)):
        found = Spread.of(d, np.ones(5))
        interval = found.widen(Interval.of(d.mean(), d.mean(), d.mean(), method="x"), 0.95, -1, 1)
        p = p_value(interval)
        assert p == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
        assert interval.low is not None
        assert interval.high is not None
        assert (p < 0.05) == (not interval.low <= 0 <= interval.high)
        assert d.mean() + reach(interval, 0.95) == pytest.approx(interval.high)
    alone = Interval.of(0.2, 0.1, 0.3, method="x")
    assert p_value(alone) == reach(alone, 0.95) == 0


def test_folds_that_agree_leave_an_interval_as_it_is() -> None:
    found = Spread.of(np.full(4, 0.2), np.ones(4))
    assert found.error == 0
    before = Interval.of(0.2, 0.1, 0.35, method="x")
    assert tuple(found.widen(before, 0.95, -1.0, 1.0)) == tuple(before)
    assert found.widen(Interval(), 0.95, 0.0, 1.0) == Interval()


@pytest.mark.parametrize("tau", [0.0, 0.02, 0.05])
@pytest.mark.parametrize("k", [3, 5, 10])
def test_intervals_cover_the_mean_over_trainings(tau: float, k: int) -> None:
    rng, runs, hits = np.random.default_rng(11), 4000, 0
    sizes = rng.integers(80, 120, k).astype(float)
    v = 0.05**2 * 100 / sizes
    w = sizes / sizes.sum()
    for _ in range(runs):
        d = 0.1 + rng.normal(0, tau, k) + rng.normal(0, np.sqrt(v))
        se = float(np.sqrt(w**2 @ v))
        mean = float(w @ d)
        within = Interval.of(mean, mean - 1.96 * se, mean + 1.96 * se, method="x")
        found = Spread.of(d, sizes)
        _, low, high = found.widen(within, 0.95, -1.0, 1.0)
        hits += low <= 0.1 <= high
    assert hits / runs >= 0.94
