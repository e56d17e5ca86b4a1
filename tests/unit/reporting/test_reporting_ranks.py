"""The rank study against scipy and constructed cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reporting_factory import Spec, build, explanation, profile, setting
from scipy import stats

from edgeward.records.profile import Profile
from edgeward.reporting import ranks
from edgeward.reporting.load import Timing, load_all

VALUES = st.lists(st.integers(-5, 5), min_size=3, max_size=12)


@given(VALUES)
def test_ranks_are_scipys(values: list[int]) -> None:
    assert ranks.rank(np.array(values)).tolist() == stats.rankdata(values).tolist()


@settings(max_examples=50)
@given(st.data())
def test_rho_is_scipys(data: st.DataObject) -> None:
    x = data.draw(VALUES)
    y = data.draw(st.lists(st.integers(-5, 5), min_size=len(x), max_size=len(x)))
    mine = float(ranks.spearman(np.array(x, float), np.array(y, float)))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert np.isnan(mine)
    else:
        assert mine == pytest.approx(stats.spearmanr(x, y).statistic)


def test_exact_p_is_scipys_over_all_pairings() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=6), rng.normal(size=6)
    theirs = stats.permutation_test(
        (x,), lambda v: stats.spearmanr(v, y).statistic, permutation_type="pairings",
        n_resamples=10_000,
    ).pvalue  # fmt: skip
    assert ranks.permutation_p(x, y) == pytest.approx(theirs)
    straight = np.arange(5.0)
    assert ranks.permutation_p(straight, straight) == pytest.approx(2 / 120)


def test_sampled_p_is_near_the_t_approximation() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=20)
    y = x + rng.normal(scale=2.0, size=20)
    assert ranks.permutation_p(x, y) == pytest.approx(stats.spearmanr(x, y).pvalue, abs=0.02)


def points(tmp_path: Path, rows: list[tuple[float, int, int]]) -> list[ranks.Point]:
    """Models with (latency, MACs, bytes moved)."""
    specs = [
        Spec(model=f"model_{i}", p50=latency, macs=macs, bytes_moved=moved, n=300)
        for i, (latency, macs, moved) in enumerate(rows)
    ]
    return ranks.points(load_all(build(tmp_path, specs)), "host")[0]


def test_memory_that_orders_latency_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    macs = rng.permutation(12)
    rows = [(1.0 + i, int(1e6 * (1 + m)), int(1e6 * (i + 1))) for i, m in enumerate(macs)]
    study = ranks.correlate(points(tmp_path, rows))
    assert study is not None
    rho = {p.name: p.rho for p in study.predictors}
    assert rho["bytes_moved"].estimate == pytest.approx(1)
    expected = stats.spearmanr(macs, range(12)).statistic
    assert rho["macs"].estimate == pytest.approx(expected)
    assert study.difference is not None
    estimate, low, _ = study.difference
    assert estimate == pytest.approx(1 - expected)
    assert low > 0
    assert study.answer.startswith("Yes: memory traffic foretells latency better")
    swapped = [(latency, moved, m) for latency, m, moved in rows]
    other = ranks.correlate(points(tmp_path / "swapped", swapped))
    assert other is not None
    assert other.answer.startswith("No: MACs foretell latency better")


def test_the_roofline_is_compared_with_macs_too() -> None:
    order = np.random.default_rng(5).permutation(12)
    content = profile("host", [setting(1.0)], explanation=explanation(Spec(), 1.0))
    record = Profile.model_validate(content)
    timing = Timing(record, record.settings[0])  # the study does not look at it
    found = [
        ranks.Point(
            f"model_{i}",
            timing,
            1.0 + i,
            {
                "macs": float(m),
                "bytes_moved": float(m),
                "parameters": 1.0 + m,
                "roofline_ms": i + 0.5,
            },
        )
        for i, m in enumerate(order)
    ]
    study = ranks.correlate(found)
    assert study is not None
    expected = 1 - stats.spearmanr(order, range(12)).statistic
    assert study.roofline_difference is not None
    assert study.roofline_difference.estimate == pytest.approx(expected)
    assert (
        "The roofline time, which weighs both, foretells it better than MACs: 1.00" in study.answer
    )
    for point in found:
        point.predictors["roofline_ms"] = point.predictors["macs"]
    same = ranks.correlate(found)
    assert same is not None
    assert "not surely better than MACs" in same.answer


def test_equal_predictors_are_not_told_apart(tmp_path: Path) -> None:
    rows = [(1.0 + i + 3 * (i % 2), 10**6 * (i + 1), 10**5 * (i + 1)) for i in range(8)]
    study = ranks.correlate(points(tmp_path, rows))
    assert study is not None
    change = study.difference
    assert change is not None
    assert (*change, change.n) == (0.0, 0.0, 0.0, 8)
    assert study.answer.startswith("Not decided")


def test_few_models_and_missing_bytes_are_said(tmp_path: Path) -> None:
    four = [(1.0 + i, 10**6 * (i + 1), 10**6 * (i + 1)) for i in range(4)]
    study = ranks.correlate(points(tmp_path / "four", four))
    assert study is not None
    assert study.predictors[0].rho.low is None
    assert study.answer.startswith("Too few models")
    assert ranks.correlate(points(tmp_path / "two", four[:2])) is None


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    specs = [
        Spec(model="fine", n=300),
        Spec(model="fine", seed=1, p50=99.0, n=300),
        Spec(model="noisy", valid=False, n=300),
        Spec(model="fine", recipe="ptq_int8", verdict="pass", n=300),
    ]
    found, left_out = ranks.points(load_all(build(tmp_path, specs)), "host")
    assert [p.model for p in found] == ["fine"]
    assert sorted(left_out) == ["noisy (timing INVALID)"]


def test_the_bootstrap_covers(tmp_path: Path) -> None:
    """With a true rho of about 0.7 and 12 models the 95 % interval holds it in most samples."""
    rng = np.random.default_rng(4)
    n, runs = 12, 60
    truth = stats.spearmanr(
        *rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 50_000).T
    ).statistic
    hits = 0
    for _ in range(runs):
        x, y = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], n).T
        draws = rng.integers(0, n, (400, n))
        record = ranks._interval(float(ranks.spearman(x, y)), ranks.spearman(x[draws], y[draws]), n)
        hits += record.low <= truth <= record.high
    assert hits >= 0.85 * runs
