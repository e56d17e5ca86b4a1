"""Point metrics against scikit-learn, relplot, netcal, scipy and plain loops."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from refusals import naming
from safety_cases import lesions
from scipy.optimize import minimize_scalar
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from edgeward.core.errors import UserError
from edgeward.statistics import calibration
from edgeward.statistics.ranking import RankTable, auc
from edgeward.statistics.temperature import fit_temperature, log_softmax
from edgeward.tasks.multiclass.scores import natural_logits, score

ZERO = np.zeros(3)


@given(
    hnp.arrays(np.int64, st.integers(4, 60), elements=st.integers(0, 6)),
    st.randoms(use_true_random=False),
)
def test_auc_with_ties_is_sklearn(values: np.ndarray, random: Random) -> None:
    positive = np.array([random.random() < 0.4 for _ in values])
    positive[:2] = [True, False]
    assert auc(values, positive) == pytest.approx(roc_auc_score(positive, values))


def test_macro_auc_log_loss_and_brier_are_sklearn() -> None:
    logits, labels, _ = lesions([60, 20, 10])
    shift = np.array([0.3, -0.2, 0.9])
    scores = score(logits, labels, shift, 1.0)
    p = np.exp(log_softmax(logits + shift))
    found = np.mean([auc(scores.log_odds[:, k], labels == k) for k in range(3)])
    assert found == pytest.approx(roc_auc_score(labels, p, multi_class="ovr", average="macro"))
    assert scores.nll.mean() == pytest.approx(log_loss(labels, p))
    assert scores.brier.mean() == pytest.approx(
        brier_score_loss(labels, p, scale_by_half=False, labels=[0, 1, 2])
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_weighted_auc_is_auc_of_repeated_images(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    values, positive = rng.integers(0, 9, 50).astype(float), rng.random(50) < share
    positive[:2] = [True, False]
    weights = rng.integers(0, 4, (50, 3))
    weights[:2] += 1
    found = RankTable.of(values, positive).replicates(weights.astype(np.float32))
    for j in range(3):
        rows = np.repeat(np.arange(50), weights[:, j])
        assert found[j] == pytest.approx(roc_auc_score(positive[rows], values[rows]), abs=1e-5)


def test_auc_needs_both_sides() -> None:
    assert np.isnan(auc(np.arange(4.0), np.ones(4, bool)))


def test_saturated_probabilities_still_rank() -> None:
    logits = np.array([[60.0, 0.0, 0.0], [50.0, 0.0, 0.0], [70.0, 0.0, 0.0]])
    scores = score(logits, np.array([0, 1, 0]), ZERO, 1.0)
    assert len(np.unique(scores.confidence)) == 1
    assert auc(scores.log_odds[:, 0], np.array([True, False, True])) == 1.0


def test_decision_is_of_raw_logits_and_confidence_of_shifted_ones() -> None:
    scores = score(np.array([[2.0, 1.9, 0.0]]), np.array([0]), np.array([-5.0, 0.0, 0.0]), 1.0)
    assert scores.decision[0] == 0
    assert scores.correct[0]
    assert scores.confidence[0] == pytest.approx(np.exp(-3) / (np.exp(-3) + np.exp(1.9) + 1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    logits = np.zeros((5, 3))
    logits[3, 1] = bad
    with pytest.raises(UserError, match=naming("1 of 5", "number 3")):
        score(logits, np.zeros(5, int), ZERO, 1.0)


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match=naming("0..3", 3)):
        score(np.zeros((2, 3)), np.array([0, 3]), ZERO, 1.0)
    with pytest.raises(UserError, match="no image"):
        score(np.zeros((0, 3)), np.array([], int), ZERO, 1.0)


def test_temperature_minimises_the_validation_nll() -> None:
    logits, labels, _ = lesions([60, 30, 20], strength=1.0)
    natural = natural_logits(3 * logits, ZERO)
    rows = np.arange(len(labels))
    best = minimize_scalar(
        lambda u: -log_softmax(natural / np.exp(u))[rows, labels].mean(),
        bounds=(-3, 3),
        method="bounded",
    )
    assert fit_temperature(natural, labels) == pytest.approx(np.exp(best.x), rel=1e-4)
    assert fit_temperature(10 * natural, labels) == pytest.approx(10 * np.exp(best.x), rel=1e-4)


def test_temperature_of_a_perfect_model_stays_finite() -> None:
    assert fit_temperature(5 * np.eye(3), np.arange(3)) == pytest.approx(0.01, rel=1e-3)


def _calibrated(n: int, seed: int = 0, gap: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.3, 0.9, n)
    return truth + gap, rng.random(n) < truth


def test_classic_ece_is_a_plain_loop() -> None:
    confidence, correct = _calibrated(500, gap=0.08)
    confidence[:3] = [1.0, 0.0, 0.4]  # the ends, and an edge
    expected = 0.0
    for i in range(15):
        mine = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if i == 0:
            mine |= confidence == 0
        if mine.any():
            expected += mine.mean() * abs(confidence[mine].mean() - correct[mine].mean())
    found = calibration.binned_ece(confidence, correct, calibration.equal_width_bins(confidence))
    assert found == pytest.approx(expected)


@pytest.mark.slow
def test_classic_ece_is_netcal() -> None:
    from netcal.metrics import ECE

    confidence, correct = _calibrated(2000, gap=0.05)
    found = calibration.binned_ece(confidence, correct, calibration.equal_width_bins(confidence))
    assert found == pytest.approx(ECE(15).measure(confidence, correct.astype(int)), abs=1e-9)


def test_confidence_of_one_is_in_the_last_bin() -> None:
    bins = calibration.equal_width_bins(np.array([0.0, 0.05, 0.95, 1.0]))
    assert bins.tolist() == [0, 0, 14, 14]


@given(
    hnp.arrays(np.float64, st.integers(1, 80), elements=st.floats(0, 1)), st.integers(2, 20),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_equal_mass_bins_keep_order_and_ties(
    confidence: np.ndarray, bins: int, random: Random
) -> None:
    bin_of = calibration.equal_mass_bins(confidence, bins)
    assert bin_of.max() < bins
    assert set(bin_of) == set(range(bin_of.max() + 1))
    order = np.argsort(confidence, kind="stable")
    assert (np.diff(bin_of[order]) >= 0).all()
    for value in np.unique(confidence):
        assert len(np.unique(bin_of[confidence == value])) == 1
    shuffled = list(range(len(confidence)))
    random.shuffle(shuffled)
    assert (calibration.equal_mass_bins(confidence[shuffled], bins) == bin_of[shuffled]).all()


def test_equal_mass_bins_have_equal_mass() -> None:
    confidence = np.random.default_rng(0).random(150)
    assert np.bincount(calibration.equal_mass_bins(confidence, 15)).tolist() == [10] * 15


def test_debiased_ece_is_the_published_formula_for_single_images() -> None:
    confidence, correct = _calibrated(400, gap=0.1)
    order = np.argsort(confidence)
    expected = 0.0
    for rows in np.array_split(order, 10):
        a, n = correct[rows].mean(), len(rows)
        expected += n / 400 * ((confidence[rows].mean() - a) ** 2 - a * (1 - a) / (n - 1))
    found = calibration.DebiasedECE(confidence, correct, np.arange(400), 10)
    assert found.inflation == 1.0
    assert found.square == pytest.approx(expected)


@pytest.mark.parametrize("gap", [0.0, 0.07])
@pytest.mark.parametrize("copies", [1, 3])
def test_debiased_ece_is_unbiased_also_for_repeated_images(gap: float, copies: int) -> None:
    squares, plain = [], []
    for seed in range(150):
        confidence, correct = (np.repeat(x, copies) for x in _calibrated(300, seed, gap))
        groups = np.repeat(np.arange(300), copies)
        squares.append(calibration.DebiasedECE(confidence, correct, groups, 15).square)
        plain.append(
            calibration.DebiasedECE(confidence, correct, np.arange(len(groups)), 15).square
        )
    error = np.std(squares) / np.sqrt(len(squares))
    assert np.mean(squares) == pytest.approx(gap**2, abs=3.5 * error)
    if copies == 3:  # without the inflation the noise of the copies is taken for miscalibration
        assert np.mean(plain) > gap**2 + 10 * error


@pytest.mark.parametrize("gap", [0.0, 0.05, 0.1])
@pytest.mark.parametrize("n", [200, 3000])
def test_smooth_ece_is_relplot(gap: float, n: int) -> None:
    from relplot.metrics import smECE

    confidence, correct = _calibrated(n, seed=n, gap=gap)
    expected, width = smECE(confidence, correct.astype(float), return_width=True)
    found = calibration.smooth_ece(confidence, correct)
    assert found.value == pytest.approx(expected, abs=2e-3)
    assert found.bandwidth == pytest.approx(width, abs=3e-3)


@pytest.mark.parametrize("gap", [0.05, 0.4])
def test_smooth_ece_is_the_integral_over_mirror_images(gap: float) -> None:
    """Also at bandwidths at which relplot cuts its kernel off (half a unit from the centre)."""
    confidence, correct = _calibrated(200, seed=1, gap=gap)
    confidence = np.minimum(confidence, 1.0)
    found = calibration.smooth_ece(confidence, correct)
    mesh, s = np.linspace(0, 1, 2001)[:, None], found.bandwidth
    kernel = sum(
        np.exp(-(((mesh - (sign * confidence + 2 * k)) / s) ** 2) / 2)
        for k in range(-4, 5)
        for sign in (1, -1)
    ) / (s * np.sqrt(2 * np.pi))
    density = np.abs((kernel * (confidence - correct)).mean(axis=1))
    assert found.value == pytest.approx(np.trapezoid(density, dx=1 / 2000), rel=1e-4)
    assert found.value == pytest.approx(found.bandwidth, rel=1e-4)


def test_smooth_ece_of_a_constant_gap_is_the_gap() -> None:
    confidence = np.full(1000, 0.8)
    correct = np.arange(1000) < 500
    assert calibration.smooth_ece(confidence, correct).value == pytest.approx(0.3, abs=1e-4)


def test_smooth_ece_of_weighted_sums_is_that_of_the_sample() -> None:
    confidence, correct = _calibrated(800, gap=0.06)
    smooth = calibration.smooth_ece(confidence, correct)
    sums = calibration.smooth_features(confidence, correct, smooth.bandwidth).sum(axis=1)[:, None]
    found = calibration.smooth_from_sums(sums, np.array([800.0]))
    assert found[0] == pytest.approx(smooth.value, rel=5e-3)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float64, st.integers(2, 40), elements=st.floats(0, 1)), st.integers(0, 99))
def test_calibration_errors_lie_in_their_bounds(confidence: np.ndarray, seed: int) -> None:
    correct = np.random.default_rng(seed).random(len(confidence)) < 0.6
    groups = np.arange(len(confidence)) // 2
    width = calibration.equal_width_bins(confidence)
    assert 0 <= calibration.binned_ece(confidence, correct, width) <= 1
    assert -1 <= calibration.DebiasedECE(confidence, correct, groups, 15).square <= 1
    assert 0 <= calibration.smooth_ece(confidence, correct).value <= 1 + 1e-6
