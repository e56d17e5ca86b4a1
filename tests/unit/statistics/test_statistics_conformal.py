"""Prediction sets and selective decisions, against the theory and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom
from sklearn.metrics import accuracy_score

from edgeward.statistics.conformal import sets, thresholds
from edgeward.statistics.selective import risk_coverage
from edgeward.statistics.temperature import log_softmax


def drawn(rng: np.random.Generator, counts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(len(counts)), counts)
    logits = rng.normal(size=(len(labels), len(counts))) + 1.5 * np.eye(len(counts))[labels]
    return log_softmax(logits), labels


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_coverage_of_each_class_is_distributed_as_theory_says(coverage: float) -> None:
    """Of m test cases after n calibration cases, beta-binomial (n + 1 - l, l), l = floor((n + 1)(1 - coverage)).

    Vovk 2012; Angelopoulos & Bates 2021 (arXiv 2107.07511), section 3.2 and appendix C.
    """
    rng, counts, m, trials = np.random.default_rng(0), [400, 60, 15], 50, 400
    held = np.zeros((trials, 3))
    for t in range(trials):
        least = thresholds(*drawn(rng, counts), coverage)
        log_p, labels = drawn(rng, [m] * 3)
        inside = sets(log_p, least)[np.arange(3 * m), labels]
        held[t] = inside.reshape(3, m).sum(axis=1)
    for k, n in enumerate(counts):
        skipped = n + 1 - int(np.ceil((n + 1) * coverage - 1e-9))
        law = betabinom(m, n + 1 - skipped, skipped)
        error = law.std() / np.sqrt(trials)
        assert held[:, k].mean() == pytest.approx(law.mean(), abs=4 * error)
        assert held[:, k].std() == pytest.approx(law.std(), rel=0.15)
        assert law.mean() / m >= coverage


def test_too_few_cases_are_in_every_set() -> None:
    log_p, labels = drawn(np.random.default_rng(1), [100, 8])
    least = thresholds(log_p, labels, 0.9)
    assert least[1] == -np.inf
    assert np.isfinite(least[0])
    assert sets(log_p, least)[:, 1].all()
    log_p, labels = drawn(np.random.default_rng(1), [100, 9])  # 9 = 0.9 / 0.1
    assert thresholds(log_p, labels, 0.9)[1] == log_p[labels == 1, 1].min()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 80))
def test_risk_is_that_of_the_most_confident(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    confidence = rng.integers(0, 20, n) / 20  # with ties
    correct = rng.random(n) < confidence
    coverage, risk = risk_coverage(confidence, correct, 200)
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(1 - accuracy_score(np.ones(n), correct))
    assert (np.diff(coverage) > 0).all()
    for share, wrong in zip(coverage, risk, strict=True):
        kept = np.argsort(-confidence, kind="stable")[: round(share * n)]
        assert wrong == pytest.approx((~correct[kept]).mean())
        assert confidence[kept].min() > np.delete(confidence, kept).max(initial=-1)
