"""Segmentation on a test set: estimates, resamples and verdicts of tables with known contents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from label_tables import CLASSES, make, maps, part
from safety_cases import config, of_labels

from edgeward.records.safety import Safety, Verdict
from edgeward.safety.comparison import assess, churn
from edgeward.statistics.bootstrap import resample_weights
from edgeward.statistics.calibration import binned_ece, debiased_square
from edgeward.statistics.grouped_calibration import GroupedECE
from edgeward.tasks.assessment import Key
from edgeward.tasks.segmentation.assess import Arm, LabelMaps
from edgeward.tasks.segmentation.task import TASK


def arm(settings: dict[str, Any] | None = None, **changes: Any) -> Arm:
    tables, cases = make(**changes)
    cfg = of_labels(**{"small_lesion": 10.0, **(settings or {})})
    return Arm(cases, cfg, tables, maps(len(cases)))


def described(model: Arm, resamples: int = 400) -> tuple[Safety, Verdict]:
    return assess(model, None, config(resamples=resamples))


def judged(before: Arm, after: Arm) -> Verdict:
    return assess(after, before, config())[1]


def estimate(model: Arm, name: str) -> float:
    return float(model.estimates[Key(name)])


def per_class(model: Arm, name: str) -> np.ndarray:
    return np.array([model.estimates[Key(name, of)] for of in CLASSES])


def test_estimates_are_what_their_names_say() -> None:
    model = arm()
    dice = model.tables.column("dice", 2)
    truth, said, both = (model.tables.column(c, 2) for c in ("truth", "predicted", "both"))
    expected = [dice[:, 0].mean(), dice[truth[:, 1] > 0, 1].mean()]
    np.testing.assert_allclose(per_class(model, "dice"), expected)
    assert estimate(model, "dice") == pytest.approx(np.mean(expected))
    pooled = 2 * both.sum(0) / (truth.sum(0) + said.sum(0))
    np.testing.assert_allclose(per_class(model, "dice_pooled"), pooled)
    assert pooled[1] < expected[1]  # false alarms count in the pooled Dice alone
    absent = truth[:, 1] == 0
    assert per_class(model, "false_alarms")[1] == pytest.approx((said[absent, 1] > 0).mean())
    assert np.isnan(per_class(model, "false_alarms")[0])
    found = np.array([row.found for row in model.tables.lesions])
    small = np.array([row.size <= 10 for row in model.tables.lesions])
    assert estimate(model, "lesion_sensitivity") == pytest.approx(found.mean())
    assert estimate(model, "small_lesion_sensitivity") == pytest.approx(found[small].mean())
    count, confidence, right = np.stack(model.tables.sums)[:, 0].sum(0).T
    assert estimate(model, "ece_15bin") == pytest.approx(
        np.abs(confidence - right).sum() / count.sum()
    )
    biased = np.sqrt(((confidence - right) ** 2 / count).sum() / count.sum())
    assert 0.9 * biased < model.value(Key("ece")) < biased
    assert 0 < model.value(Key("boundary_ece")) < 0.2


def test_a_resample_is_a_test_set_with_repeated_cases() -> None:
    model = arm()
    weights = next(resample_weights(model.cases.labels, model.cases.groups, 100, 3))
    got = model.replicates(weights[:, :3])
    shrunk = {"ece", "boundary_ece"}  # their replicates are of a world with smaller gaps
    for b in range(3):
        rows = np.repeat(np.arange(60), weights[:, b].astype(int))
        assert len(np.unique(model.cases.groups[rows])) < 30
        tables, cases = part(model.tables, model.cases, rows)
        again = Arm(cases, model.cfg, tables, maps(len(rows))).estimates
        for key in {Key(metric.name) for metric in TASK.metrics if metric.name not in shrunk}:
            assert got[key][b] == pytest.approx(float(again[key])), key


def test_an_equal_model_passes_and_a_better_one_too() -> None:
    same = judged(arm(n=400), arm(n=400))
    assert same.verdict == "pass", same.reasons
    assert same.churn is not None
    assert same.churn.estimate == 0
    assert same.differences["dice"].estimate == 0
    better = judged(arm(n=400), arm(n=400, loss=-0.03, miss=0.05))
    assert better.verdict == "pass"
    _, low, _ = better.differences["dice"]
    assert low > 0
    names = [row.name for row in better.endpoints]
    assert names == [
        "Dice of organ", "Dice of spot", "sensitivity to small lesions", "mean Dice", "RMS-ECE",
        "boundary RMS-ECE",
    ]  # fmt: skip


def test_every_kind_of_loss_fails_and_is_named() -> None:
    before = arm()
    for after, reason in (
        (arm(loss=0.06), "Dice of organ"),
        (arm(miss=0.6), "sensitivity to small lesions"),
        (arm(over=0.2), "RMS-ECE"),
    ):
        found = judged(before, after)
        assert found.verdict == "fail", reason
        assert any(reason in line for line in found.reasons)
    lost = judged(before, arm(miss=0.6)).per_class
    assert lost[0].n == 0
    assert lost[1].n == 120
    assert lost[1].lost > 30
    assert lost[1].mcnemar_p_holm is not None
    assert lost[1].mcnemar_p_holm < 1e-4


def test_too_few_cases_are_inconclusive_however_equal() -> None:
    found = judged(arm(n=12), arm(n=12))
    assert found.verdict == "inconclusive"
    assert any("6 groups are too few, needed 30" in line for line in found.reasons)
    none = judged(arm({"small_lesion": 1.0}), arm({"small_lesion": 1.0}))
    row = next(r for r in none.endpoints if r.metric == "small_lesion_sensitivity")
    assert row.outcome == "inconclusive"
    assert "no small lesion" in row.reason
    off = judged(arm({"small_lesion": None}), arm({"small_lesion": None}))
    assert off.verdict == "pass"
    assert len(off.endpoints) == 5


def test_a_class_that_the_reference_does_not_find_is_no_evidence() -> None:
    found = judged(arm(loss=0.85), arm(loss=0.85))
    row = next(r for r in found.endpoints if r.metric == "dice_spot")
    assert row.outcome == "inconclusive"
    assert "nothing to lose" in row.reason
    assert row.cases_needed is None
    reasons = described(arm(loss=0.85))[1].reasons
    assert any(line.startswith("Dice of spot: the reference hardly finds it") for line in reasons)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Mean Dice of many small test sets against its expectation."""
    hits, sets = 0, 120
    for seed in range(sets):
        tables, cases = make(n=40, seed=seed)
        model = Arm(cases, of_labels(small_lesion=None), tables, maps(40))
        _, low, high = described(model, 200)[0].per_class[0].metrics["dice"]
        hits += low <= 0.9 <= high
    assert 0.88 < hits / sets <= 1


def test_debiased_ece_is_the_published_one_for_single_pixels() -> None:
    rng = np.random.default_rng(0)
    bin_of = rng.integers(0, 15, 400)
    confidence, correct = (bin_of + 0.5) / 15, rng.random(400) < 0.6
    sums = np.zeros((400, 15, 3))
    sums[np.arange(400), bin_of] = np.stack([np.ones(400), confidence, correct], axis=1)
    found = GroupedECE(sums, np.arange(400))
    residual, right = np.bincount(bin_of, confidence - correct), np.bincount(bin_of, correct)
    published = debiased_square(residual, right, np.bincount(bin_of), inflation=1.0)
    assert found.square == pytest.approx(float(published))
    assert found.plain == pytest.approx(binned_ece(confidence, correct, bin_of))


def test_a_calibrated_model_has_no_ece_however_alike_its_pixels() -> None:
    """Cases are right or wrong as a whole: only as many facts as groups, which the plain ECE takes for error."""
    rng = np.random.default_rng(1)
    squares, plain = [], []
    for _ in range(300):
        sums = np.zeros((40, 15, 3))
        sums[:, 10] = 1000 * np.stack([np.ones(40), np.full(40, 0.7), rng.random(40) < 0.7], axis=1)
        ece = GroupedECE(sums, np.arange(40) // 2)
        squares.append(ece.square)
        plain.append(ece.plain)
    assert np.mean(plain) > 0.05
    assert abs(np.mean(squares)) < 3 * np.std(squares) / np.sqrt(300)


def test_churn_is_the_share_of_voxels_labelled_differently() -> None:
    tables, cases = make(n=4)
    shapes = np.array([[4, 1], [2, 1], [1, 1], [3, 1]])
    labels = np.zeros(10, dtype=np.uint8), np.array([1, 0, 0, 0, 2, 2, 0, 0, 0, 0], dtype=np.uint8)
    before, after = (Arm(cases, of_labels(), tables, LabelMaps(some, shapes)) for some in labels)
    found, low, high = churn(before, after, config())
    assert found == pytest.approx((0.25 + 1 + 0 + 0) / 4)
    assert low <= found <= high
