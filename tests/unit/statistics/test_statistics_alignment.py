"""Constants that make one model call classes as often as another, against a linear program."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from edgeward.statistics.alignment import call_shares, fit_offsets


def drawn(seed: int, n: int = 600, c: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = rng.choice(c, n, p=np.array([8, 4, 2, 1])[:c] / np.array([8, 4, 2, 1])[:c].sum())
    logits: np.ndarray = rng.normal(size=(n, c)) + 2 * np.eye(c)[labels]
    return logits


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.lists(st.floats(-2, 2), min_size=4, max_size=4))
def test_a_constant_is_taken_back(seed: int, move: list[float]) -> None:
    plain = drawn(seed)
    moved = plain + np.array(move)
    found = fit_offsets(moved, call_shares(plain))
    assert found.mean() == pytest.approx(0, abs=1e-12)
    calls = call_shares(moved + found)
    assert np.abs(calls - call_shares(plain)).max() <= 3 / len(plain)
    assert np.mean((moved + found).argmax(axis=1) == plain.argmax(axis=1)) > 0.98


def test_the_optimum_is_that_of_the_linear_program() -> None:
    """min over b, m of mean(m) - target b with m_i >= l_ik + b_k: the hard maximum, solved exactly."""
    logits, n, c = drawn(3, n=150), 150, 4
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    rows, values = [], []
    for i in range(n):
        for k in range(c):
            row = np.zeros(n + c)
            row[i], row[n + k] = -1, 1
            rows.append(row)
            values.append(-logits[i, k])
    cost = np.concatenate([np.full(n, 1 / n), -shares])
    exact = linprog(cost, np.array(rows), np.array(values), bounds=(None, None)).fun
    b = fit_offsets(logits, shares)
    assert (logits + b).max(axis=1).mean() - shares @ b == pytest.approx(exact, abs=5e-4)


def test_what_is_aligned_stays() -> None:
    """Also where classes are far apart, and a border could lie anywhere between."""
    for logits in (drawn(1), 20 * np.eye(4)[np.random.default_rng(0).integers(0, 4, 200)]):
        assert fit_offsets(logits, call_shares(logits)) == pytest.approx(0, abs=0.05)


def test_weights_are_repeats() -> None:
    logits, shares = drawn(5), np.array([0.5, 0.2, 0.2, 0.1])
    twice = np.where(np.arange(len(logits)) < 100, 2, 1)
    repeated = fit_offsets(np.repeat(logits, twice, axis=0), shares)
    assert fit_offsets(logits, shares, twice) == pytest.approx(repeated, abs=0.02)
    assert call_shares(logits, twice) == pytest.approx(
        call_shares(np.repeat(logits, twice, axis=0))
    )


def test_a_class_that_is_never_called_stays_finite() -> None:
    found = fit_offsets(drawn(7), np.array([0.7, 0.3, 0.0, 0.0]))
    assert np.isfinite(found).all()
    assert call_shares(drawn(7) + found)[2:].max() <= 0.005
