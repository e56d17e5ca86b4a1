"""Order-statistic intervals, and the verdict on a measurement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from shipped import shipped

from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.statistics import (
    autocorrelation,
    drift,
    interval_ranks,
    judge,
    latency,
    percentile,
    samples_needed,
)


@pytest.fixture
def cfg() -> ProfileConfig:
    return ProfileConfig(**shipped("profile", "host"))


def quiet(**changed: Any) -> dict[str, Any]:
    """Conditions of a window of 2 s in which nothing happened."""
    return {
        "own_cpu_s": 2.0,
        "other_cpu_s": 0.02,
        "steal_s": 0.0,
        "throttled": None,
        "clock_mhz": [None, None],
        "hottest_c": [None, None],
        "cooling": [None, None],
        **changed,
    }


@pytest.mark.parametrize(
    ("n", "ranks"),
    # Median, 95 %: the ranks of the sign test's interval (Conover 1999, table A3 at p = 0.5).
    [(5, (None, None)), (6, (1, 6)), (10, (2, 9)), (15, (4, 12)), (20, (6, 15)), (25, (8, 18))],
)
def test_ranks_of_the_median_are_those_of_the_table(n: int, ranks: tuple[Any, Any]) -> None:
    assert interval_ranks(n, 0.5, 0.95) == ranks


@given(
    n=st.integers(1, 3000),
    share=st.floats(0.01, 0.99),
    confidence=st.sampled_from([0.9, 0.95, 0.99]),
)
@settings(max_examples=200, deadline=None)
def test_ranks_are_the_tightest_that_hold_the_level(
    n: int, share: float, confidence: float
) -> None:
    low, high = interval_ranks(n, share, confidence)
    tail = (1 - confidence) / 2
    below = stats.binom(n, share)
    # x(low) <= quantile unless fewer than low samples lie below it; x(high) likewise.
    assert below.cdf((low or 0) - 1) <= tail + 1e-12
    if low != n:
        assert below.cdf(low or 0) > tail - 1e-12
    if high is None:
        assert below.cdf(n - 1) < 1 - tail + 1e-12
    else:
        assert below.cdf(high - 1) >= 1 - tail - 1e-12
        assert high == 1 or below.cdf(high - 2) < 1 - tail + 1e-12


@pytest.mark.parametrize(("percent", "needed"), [(50, 6), (90, 36), (95, 72), (99, 368)])
def test_least_number_of_samples(percent: float, needed: int) -> None:
    assert samples_needed(percent / 100, 0.95) == needed
    assert None in interval_ranks(needed - 1, percent / 100, 0.95)
    assert None not in interval_ranks(needed, percent / 100, 0.95)


@pytest.mark.parametrize("percent", [50, 90, 99])
def test_intervals_cover_the_true_percentile(percent: float) -> None:
    rng = np.random.default_rng(7)
    truth = stats.lognorm(0.4).ppf(percent / 100)
    trials, n = 2000, 500
    low, high = interval_ranks(n, percent / 100, 0.95)
    assert low is not None
    assert high is not None
    ordered = np.sort(stats.lognorm(0.4).rvs((trials, n), random_state=rng), axis=1)
    covered = np.mean((ordered[:, low - 1] <= truth) & (truth <= ordered[:, high - 1]))
    assert 0.94 < covered < 0.985  # at least 95 %, up to 3 standard errors; not needlessly wide


def test_percentile_is_an_order_statistic() -> None:
    ordered = np.arange(1, 101) / 10
    record = percentile(ordered, 90, 0.95)
    estimate, low, high = record
    assert estimate == 9.0
    assert low in ordered
    assert low < 9.0 < high
    assert record.n == 100


@given(st.lists(st.floats(0.001, 1e4), min_size=1, max_size=300))
@settings(deadline=None)
def test_summary_is_ordered_and_ignores_the_order_of_samples(values: list[float]) -> None:
    samples = np.array(values)
    summary = latency(samples, [50, 90, 95, 99], 0.95)
    percentiles = [getattr(summary, p) for p in ("p50", "p90", "p95", "p99")]
    estimates = [record.estimate for record in percentiles]
    assert estimates == sorted(estimates)
    assert summary.min <= estimates[0]
    assert estimates[-1] <= summary.max
    for record in percentiles:
        assert record.low is None or record.low <= record.estimate
        assert record.high is None or record.high >= record.estimate
    assert latency(samples[::-1], [50, 90, 95, 99], 0.95) == summary


def test_estimate_agrees_with_numpy() -> None:
    samples = np.random.default_rng(0).gamma(3, size=777)
    for percent in (50, 90, 95, 99):
        expected = np.percentile(samples, percent, method="inverted_cdf")
        assert percentile(np.sort(samples), percent, 0.95).estimate == expected


def steady(n: int = 1000) -> np.ndarray:
    return np.random.default_rng(1).normal(2.0, 0.02, n)


def reasons_for(cfg: ProfileConfig, samples: np.ndarray, conditions: dict[str, Any]) -> list[str]:
    summary = latency(samples, cfg.percentiles, cfg.confidence)
    return judge(samples, summary, conditions, 2.0, cfg)


def test_quiet_measurement_is_valid(cfg: ProfileConfig) -> None:
    assert reasons_for(cfg, steady(), quiet()) == []


def test_machine_that_tells_nothing_is_judged_by_the_samples(cfg: ProfileConfig) -> None:
    assert reasons_for(cfg, steady(), quiet(other_cpu_s=None, steal_s=None)) == []


@pytest.mark.parametrize(
    ("samples", "conditions", "reason"),
    [
        (steady(30), quiet(), "too few samples for p90: 30, at least 36 needed"),
        (steady(30), quiet(), "stopped at max_duration_s = 5 with 30 of min_count = 200"),
        (np.linspace(2.0, 2.3, 1000), quiet(), "the median moved by +11"),
        (np.tile([1.0, 2.0], 500), quiet(), "the interval of p50 is 100.0% wide"),
        (steady(), quiet(steal_s=0.2), "the hypervisor took 10.0% of the time"),
        (steady(), quiet(other_cpu_s=1.0), "other processes used 0.50 cores, 0.15 allowed"),
        (steady(), quiet(throttled=3), "the CPU throttled 3 times"),
        (steady(), quiet(clock_mhz=[3000.0, 2400.0]), "the clock fell from 3000 to 2400 MHz"),
        (steady(), quiet(hottest_c=[50.0, 61.0]), "rose from 50 to 61 degrees Celsius, 10 allowed"),
        (steady(), quiet(cooling=[0, 2]), "the kernel holds the clock down"),
    ],
)
def test_disturbed_measurement_is_invalid_and_says_why(
    cfg: ProfileConfig, samples: np.ndarray, conditions: dict[str, Any], reason: str
) -> None:
    reasons = reasons_for(cfg, samples, conditions)
    assert any(reason in found for found in reasons), reasons


@pytest.mark.parametrize(
    "conditions",
    [
        quiet(other_cpu_s=0.29),
        quiet(steal_s=0.039),
        quiet(throttled=0),
        quiet(clock_mhz=[3000.0, 2750.0]),
        quiet(clock_mhz=[2000.0, 3000.0]),
        quiet(hottest_c=[50.0, 59.0], cooling=[0, 0]),
    ],
)
def test_disturbance_below_its_limit_is_valid(
    cfg: ProfileConfig, conditions: dict[str, Any]
) -> None:
    assert reasons_for(cfg, steady(), conditions) == []


def test_drift_and_autocorrelation() -> None:
    assert drift(np.array([1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0])) == pytest.approx(1.0)
    assert drift(np.array([3.0])) == 0.0
    rng = np.random.default_rng(3)
    independent = rng.normal(size=2000)
    found, of_walk = autocorrelation(independent), autocorrelation(np.cumsum(independent))
    assert found is not None
    assert abs(found) < 0.1
    assert of_walk is not None
    assert of_walk > 0.9
    assert autocorrelation(np.array([1.0, 2.0])) is None
