"""The factor between two samples, against SciPy and by brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from edgeward.statistics.two_samples import _below, factor


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 4), (5, 2), (4, 4)])
def test_the_null_distribution_is_that_of_all_orders(n: int, m: int) -> None:
    found = [
        sum(i > j for i in mine for j in set(range(n + m)) - set(mine))
        for mine in itertools.combinations(range(n + m), n)
    ]
    for k in range(n * m + 1):
        assert _below(n, m)[k] == pytest.approx(np.mean([u <= k for u in found]), abs=1e-12)


def test_the_interval_holds_the_factors_that_the_test_does_not_reject() -> None:
    rng = np.random.default_rng(0)
    reference, mine = rng.lognormal(0, 0.1, 9), rng.lognormal(0.3, 0.1, 12)
    interval = factor(mine, reference, 0.95)
    assert interval.low is not None
    assert interval.high is not None
    inside, outside = 1 + 1e-9, 1 - 1e-9
    for end, inwards in ((interval.low, inside), (interval.high, outside)):
        for side, rejected in ((inwards, False), (2 - inwards, True)):
            p = mannwhitneyu(mine / (end * side), reference, method="exact").pvalue
            assert bool(p <= 0.05) is rejected


def test_the_interval_covers_and_scales() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(1000):
        _, low, high = factor(1.2 * rng.gamma(3, 1, 12), rng.gamma(3, 1, 12), 0.95)
        hits += bool(low <= 1.2 <= high)
    assert 0.93 < hits / 1000 < 0.975
    a, b = rng.gamma(3, 1, (2, 8))
    assert [*factor(5 * a, b, 0.9)] == pytest.approx([5 * end for end in factor(a, b, 0.9)])


def test_too_few_values_leave_the_ends_open() -> None:
    three = np.array([1.0, 2.0, 3.0])
    assert (factor(three, three, 0.95).low, factor(three, three, 0.95).high) == (None, None)
