"""Intervals against closed forms, other libraries, and an inversion of the test from scratch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import norm, t
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from edgeward.statistics import paired
from edgeward.statistics.clusters import cluster_correlation, design_effect, pooled_correlation
from edgeward.statistics.intervals import (
    expanded_tail,
    mover,
    percentile,
    tango,
    tango_statistic,
    wilson,
    z_value,
)

LEVELS = st.sampled_from([0.8, 0.9, 0.95, 0.99])


@given(st.integers(1, 5000), st.floats(0, 1), LEVELS)
def test_wilson_is_statsmodels(n: int, share: float, level: float) -> None:
    k = round(n * share)
    expected = proportion_confint(k, n, alpha=1 - level, method="wilson")
    assert wilson(k, n, level) == pytest.approx(expected, abs=1e-9)


def test_wilson_worked_examples() -> None:
    assert wilson(12, 23, 0.95) == pytest.approx((0.330, 0.708), abs=5e-4)
    assert wilson(0, 0, 0.95) == (0.0, 1.0)
    assert wilson(0, 9, 0.95)[0] == 0.0
    assert wilson(9, 9, 0.95)[1] == 1.0


@given(st.floats(1, 1e5), LEVELS)
def test_tango_without_discordance_has_its_closed_form(n: float, level: float) -> None:
    limit = z_value(level) ** 2 / (n + z_value(level) ** 2)
    assert tango(0, 0, n, level) == pytest.approx((-limit, limit), abs=1e-9)


def _score_from_scratch(delta: float, gained: int, lost: int, n: int) -> float:
    """The score statistic with the nuisance parameter found by numerical maximum likelihood."""

    def deviance(p_lost: float) -> float:
        p = (p_lost + delta, p_lost, 1 - 2 * p_lost - delta)
        counts = (gained, lost, n - gained - lost)
        return -sum(k * np.log(max(q, 1e-300)) for k, q in zip(counts, p, strict=True) if k)

    low, high = max(0.0, -delta), (1 - delta) / 2
    p_lost = minimize_scalar(
        deviance, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
    ).x
    return (gained - lost - n * delta) / np.sqrt(n * (2 * p_lost + delta - delta**2))


@pytest.mark.parametrize(
    ("gained", "lost", "n"), [(3, 9, 40), (0, 6, 23), (1, 0, 28), (12, 2, 50), (20, 21, 300)]
)
def test_tango_inverts_the_likelihood_score_test(gained: int, lost: int, n: int) -> None:
    low, high = tango(gained, lost, n, 0.95)
    z, estimate = z_value(0.95), (gained - lost) / n
    edge = 1 - 1e-6
    expected_low = brentq(
        lambda d: _score_from_scratch(d, gained, lost, n) - z, -edge, estimate - 1e-4
    )
    expected_high = brentq(
        lambda d: _score_from_scratch(d, gained, lost, n) + z, estimate + 1e-4, edge
    )
    assert (low, high) == pytest.approx((expected_low, expected_high), abs=2e-5)


def _counts() -> st.SearchStrategy[tuple[int, int, int]]:
    return st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 400)).map(
        lambda x: (x[0], x[1], max(1, x[0] + x[1] + x[2]))
    )


@given(_counts(), LEVELS)
def test_tango_is_antisymmetric_bounded_and_holds_the_estimate(
    counts: tuple[int, int, int], level: float
) -> None:
    gained, lost, n = counts
    low, high = tango(gained, lost, n, level)
    assert -1 <= low <= (gained - lost) / n <= high <= 1
    assert tango(lost, gained, n, level) == pytest.approx((-high, -low), abs=1e-9)


@given(_counts(), LEVELS)
def test_one_more_loss_never_raises_the_lower_limit(
    counts: tuple[int, int, int], level: float
) -> None:
    gained, lost, n = counts
    assert tango(gained, lost + 1, n + 1, level)[0] <= tango(gained, lost, n + 1, level)[0] + 1e-9


@given(_counts(), st.floats(1, 4))
def test_a_design_effect_never_narrows_tango_without_gains_beyond_losses(
    counts: tuple[int, int, int], effect: float
) -> None:
    gained, lost, n = counts
    plain = tango(gained, lost, n, 0.95)
    wide = tango(gained / effect, lost / effect, n / effect, 0.95)
    assert wide[1] - wide[0] >= plain[1] - plain[0] - 1e-9


def test_mover_of_wald_intervals_is_the_wald_interval() -> None:
    estimates, errors, weights = [0.3, 0.6, 0.8], [0.1, 0.05, 0.02], [0.5, 0.25, 0.25]
    limits = [(x - 1.96 * e, x + 1.96 * e) for x, e in zip(estimates, errors, strict=True)]
    half = 1.96 * np.sqrt(sum((w * e) ** 2 for w, e in zip(weights, errors, strict=True)))
    total = float(np.dot(weights, estimates))
    assert mover(weights, estimates, limits) == pytest.approx((total - half, total + half))


def test_expanded_tail_tends_to_the_nominal_one_and_follows_the_formula() -> None:
    assert expanded_tail(0.95, 10**7) == pytest.approx(0.025, rel=1e-3)
    expected = norm.cdf(-np.sqrt(12 / 11) * t.ppf(0.975, 11))
    assert expanded_tail(0.95, 12) == pytest.approx(expected)
    assert expanded_tail(0.95, 1) == 0.0


def test_percentile_leaves_out_undefined_replicates() -> None:
    values = np.concatenate([np.linspace(0, 1, 1001), [np.nan] * 50])
    assert percentile(values, 0.95, 1e9) == pytest.approx((0.025, 0.975), abs=1e-6)
    assert np.isnan(percentile(np.full(5, np.nan), 0.95, 10)).all()


def test_cluster_correlation_of_balanced_groups_is_the_textbook_ratio() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 3)) + 0.8 * rng.normal(size=(40, 1))
    between = 3 * values.mean(axis=1).var(ddof=1)
    within = values.var(axis=1, ddof=1).mean()
    expected = (between - within) / (between + 2 * within)
    found = cluster_correlation(values.ravel(), np.repeat(np.arange(40), 3))
    assert found == pytest.approx(expected)


def test_cluster_correlation_of_copies_is_one_and_of_single_images_unknown() -> None:
    values = np.array([0.0, 1.0, 1.0, 0.0])
    assert cluster_correlation(np.repeat(values, 2), np.repeat(np.arange(4), 2)) == 1.0
    assert np.isnan(cluster_correlation(values, np.arange(4)))


def test_design_effect_counts_groups_when_nothing_is_known() -> None:
    groups = np.repeat(np.arange(10), 3)
    assert design_effect(np.ones(30), groups, float("nan")) == pytest.approx(3.0)
    assert design_effect(np.ones(30), groups, 0.5) == pytest.approx(2.0)
    assert design_effect(np.ones(30), np.arange(30), float("nan")) == 1.0


def test_pooled_correlation_ignores_class_means() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 300)
    values = rng.normal(size=600) + 5.0 * labels
    groups = np.repeat(np.arange(200), 3)
    assert pooled_correlation(values, labels, groups) < 0.15
    assert cluster_correlation(values, groups) > 0.8


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_statsmodels(lost: int, gained: int) -> None:
    expected = mcnemar([[5, lost], [gained, 5]], exact=True).pvalue if lost + gained else 1.0
    assert paired.mcnemar_exact(lost, gained) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(p: list[float]) -> None:
    assert paired.holm(np.array(p)) == pytest.approx(multipletests(p, method="holm")[1])


def test_power_is_that_of_simulated_pairs() -> None:
    counts = np.random.default_rng(0).multinomial(200, [0.05, 0.05, 0.9], 40_000)
    passed = tango_statistic(-0.05, counts[:, 1], counts[:, 0], 200) > z_value(0.95)
    expected = paired.non_inferiority_power(200, 0.1, 0.05, 0.95)
    assert expected == pytest.approx(passed.mean(), abs=0.012)
    assert paired.non_inferiority_power(73, 0.0, 0.05, 0.95) == pytest.approx(1.0)
    assert paired.non_inferiority_power(72, 0.0, 0.05, 0.95) == 0.0


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 300), st.floats(0, 0.3), st.sampled_from([0.02, 0.05, 0.1]))
def test_cases_needed_reach_the_power_and_grow_with_it(n: int, rate: float, margin: float) -> None:
    seen = round(rate * n)
    row = paired.PairedShare(n, n, seen, 0, 1.0, 0.0, 0.0)
    needed = paired.cases_needed(row, 0.0, margin, 0.95, 0.8)
    if needed < 20_000:
        assert paired.non_inferiority_power(needed, max(seen, 1) / n, margin, 0.95) >= 0.8
    assert paired.cases_needed(row, 0.0, margin, 0.95, 0.95) >= needed
    doubled = paired.PairedShare(n, n, seen, 0, 2.0, 0.0, 0.0)
    assert paired.cases_needed(doubled, 0.0, margin, 0.95, 0.8) == 2 * needed
