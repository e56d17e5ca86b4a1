"""The verdict: what passes, what fails, and what is too little to tell."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import naming
from safety_cases import classifier, config, lesions

from edgeward.core.errors import UserError
from edgeward.records.base import Interval
from edgeward.records.safety import EndpointRow, Verdict
from edgeward.safety.comparison import assess
from edgeward.safety.stage import metrics_of
from edgeward.statistics.noninferiority import Endpoint, judge, judged, overall
from edgeward.tasks.multiclass.assess import Arm
from edgeward.tasks.multiclass.task import TASK

NAMES = ["common", "middling", "rare"]
CFG = config()
LARGE = [900, 500, 400]
FEW = [900, 500, 14]
RARE = Endpoint("recall of rare", "recall", 0.05, "higher", 900, 500, "rare")


def _model(
    logits: np.ndarray, labels: np.ndarray, groups: np.ndarray, temperature: float = 1.0
) -> Arm:
    val = logits, labels  # as good as any for thresholds
    return classifier(logits, labels, groups, NAMES, ["rare"], temperature, val)


def _verdict(
    reference: np.ndarray, compressed: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> Verdict:
    return assess(
        _model(compressed, labels, groups), _model(reference, labels, groups), CFG
    )[1]  # fmt: skip


def _outcomes(verdict: Verdict) -> dict[str, str]:
    return {row.metric: row.outcome for row in verdict.endpoints}


def of_difference(low: float, high: float, cases_needed: int | None = None) -> EndpointRow:
    """The recall of a rare class, judged."""
    change = Interval.of((low + high) / 2, low, high)
    return judged(
        RARE, reference=Interval(estimate=0.8), compressed=Interval(estimate=0.77), difference=change,
        cases_needed=cases_needed, fewest_groups=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "direction", "outcome"),
    [
        (-0.04, 0.03, "higher", "pass"),
        (-0.04, -0.01, "higher", "pass"),  # worse, but within the margin
        (-0.06, 0.01, "higher", "inconclusive"),
        (-0.06, -0.01, "higher", "inconclusive"),  # worse for sure, by how much is open
        (-0.30, -0.06, "higher", "fail"),
        (-0.05, 0.02, "higher", "inconclusive"),  # the limit itself is not within
        (-0.03, 0.04, "lower", "pass"),
        (-0.01, 0.06, "lower", "inconclusive"),
        (0.01, 0.06, "lower", "inconclusive"),
        (0.06, 0.09, "lower", "fail"),
        (float("nan"), float("nan"), "higher", "inconclusive"),
    ],
)
def test_judge(low: float, high: float, direction: str, outcome: str) -> None:
    assert judge(low, high, 0.05, direction) == outcome


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0.01, 0.3))
def test_judge_is_monotone_and_mirrored(low: float, width: float, margin: float) -> None:
    order = ["fail", "inconclusive", "pass"]
    here = judge(low, low + width, margin, "higher")
    better = judge(low + 0.1, low + width + 0.1, margin, "higher")
    assert order.index(better) >= order.index(here)
    assert judge(-low - width, -low, margin, "lower") == here


def test_overall_takes_the_worst() -> None:
    rows = [of_difference(-0.04, 0.03), of_difference(-0.06, 0.01), of_difference(-0.3, -0.06)]
    assert [row.outcome for row in rows] == ["pass", "inconclusive", "fail"]
    assert overall(rows)[0] == "fail"
    assert overall(rows)[1][0].startswith("fail")
    assert overall(rows[:2])[0] == "inconclusive"
    assert overall(rows[:1]) == ("pass", ["All 1 endpoints are within their margins."])
    with pytest.raises(UserError, match="endpoint"):
        overall([])


def test_a_harmless_compression_of_a_large_set_passes() -> None:
    logits, labels, groups = lesions(LARGE)
    changed = logits + 0.02 * np.random.default_rng(1).normal(size=logits.shape)
    verdict = _verdict(logits, changed, labels, groups)
    assert verdict.verdict == "pass", verdict.reasons
    assert all(row.cases_needed is None for row in verdict.endpoints)


def test_the_same_harmless_compression_of_few_cases_does_not_pass() -> None:
    logits, labels, groups = lesions(FEW)
    changed = logits + 0.02 * np.random.default_rng(1).normal(size=logits.shape)
    verdict = _verdict(logits, changed, labels, groups)
    assert verdict.verdict == "inconclusive"
    assert _outcomes(verdict)["recall_rare"] == "inconclusive"
    assert _outcomes(verdict)["auc_macro"] == "inconclusive"
    row = verdict.endpoints[0]
    assert row.cases_needed is not None
    assert row.cases_needed > row.n
    assert str(row.cases_needed) in row.reason


def test_identical_predictions_differ_by_zero_and_few_cases_still_do_not_pass() -> None:
    logits, labels, groups = lesions(FEW)
    verdict = _verdict(logits, logits, labels, groups)
    for name, row in verdict.differences.items():
        estimate, low, high = row
        assert estimate == 0, name
        assert low <= 0 <= high, name
    _, low, _ = verdict.differences["recall_rare"]
    assert low < -0.05
    assert verdict.churn is not None
    assert verdict.churn.estimate == 0
    assert all(row.mcnemar_p == 1 for row in verdict.per_class)
    assert verdict.verdict == "inconclusive"


def test_a_rare_class_forgotten_fails_even_with_few_cases() -> None:
    logits, labels, groups = lesions(FEW)
    changed = logits.copy()
    changed[:, 2] -= 6
    verdict = _verdict(logits, changed, labels, groups)
    assert verdict.verdict == "fail"
    assert _outcomes(verdict)["recall_rare"] == "fail"
    assert verdict.reasons[0].startswith("fail: recall of rare")
    change = verdict.per_class[2]
    assert change.mcnemar_p_holm is not None
    assert change.mcnemar_p_holm < 0.05
    assert change.lost > change.gained


def test_overconfidence_alone_fails_on_calibration_only() -> None:
    logits, labels, groups = lesions(LARGE, strength=2.0)
    verdict = _verdict(2 * logits, 6 * logits, labels, groups)
    found = _outcomes(verdict)
    assert found.pop("ece") == "fail"
    assert set(found.values()) == {"pass"}
    assert verdict.verdict == "fail"


def test_worse_ranking_fails_on_auc() -> None:
    logits, labels, groups = lesions(LARGE)
    changed = logits + 2.5 * np.random.default_rng(2).normal(size=logits.shape)
    verdict = _verdict(logits, changed, labels, groups)
    assert _outcomes(verdict)["auc_macro"] == "fail"
    assert _outcomes(verdict)["balanced_accuracy"] == "fail"


def test_a_reference_that_never_finds_the_class_has_nothing_to_lose() -> None:
    logits, labels, groups = lesions(LARGE)
    logits[:, 2] -= 9
    verdict = _verdict(logits, logits, labels, groups)
    row = verdict.endpoints[0]
    _, low, _ = row.difference
    assert low > -0.05  # the interval alone would pass
    assert row.outcome == "inconclusive"
    assert "nothing to lose" in row.reason
    assert verdict.verdict == "inconclusive"
    reference = _model(logits, labels, groups)
    told = assess(reference, None, CFG)[1]
    assert told.verdict == "reference"
    assert "recall of rare: the reference hardly finds it" in told.reasons[1]


def test_a_class_absent_from_test_is_said_and_does_not_pass() -> None:
    logits, labels, groups = lesions([900, 500])
    logits = np.hstack([logits, np.full((len(logits), 1), -5.0)])
    model = _model(logits, labels, groups)
    safety, verdict = assess(model, model, CFG)
    assert safety.absent_classes == ["rare"]
    assert safety.per_class[2].metrics["auc"].estimate is None
    assert safety.metrics["rare_recall"].estimate is None
    found = _outcomes(verdict)
    assert (found["recall_rare"], found["balanced_accuracy"], found["auc_macro"]) == (
        "inconclusive",
    ) * 3
    assert "no image" in verdict.endpoints[0].reason
    assert verdict.endpoints[0].cases_needed is not None
    assert verdict.endpoints[0].cases_needed >= 73
    assert "rare_recall" not in metrics_of(Arm, safety, verdict)


def test_constant_predictions_are_assessed() -> None:
    _, labels, groups = lesions([200, 100, 60])
    model = _model(np.zeros((len(labels), 3)), labels, groups)
    safety, _ = assess(model, None, CFG)
    assert safety.metrics["auc_macro"].estimate == 0.5
    assert safety.metrics["balanced_accuracy"].estimate == pytest.approx(1 / 3)
    assert safety.metrics["nll"].estimate == pytest.approx(np.log(3))
    assert sum(safety.reliability["all"].count) == len(labels)
    assert len(safety.reliability["all"].count) == 1


def test_a_perfect_model_gets_no_interval_of_width_zero() -> None:
    _, labels, groups = lesions([200, 100, 20])
    model = _model(9 * np.eye(3)[labels], labels, groups)
    safety, _ = assess(model, None, CFG)
    for name in ("auc_macro", "accuracy", "balanced_accuracy", "rare_recall"):
        estimate, low, _ = safety.metrics[name]
        assert estimate == 1.0
        assert low < 0.999
    z2 = 1.959964**2
    assert safety.per_class[2].metrics["auc"].low == pytest.approx(20 / (20 + z2), abs=1e-6)


def test_a_single_group_of_a_class_gives_no_bootstrap_failure() -> None:
    logits, labels, groups = lesions([60, 40, 1])
    changed = logits.copy()
    changed[labels == 2, 2] -= 8
    verdict = _verdict(logits, changed, labels, groups)
    assert _outcomes(verdict)["auc_macro"] == "inconclusive"


def test_the_order_of_the_images_changes_nothing() -> None:
    logits, labels, groups = lesions([80, 40, 20])
    changed = logits + 0.5 * np.random.default_rng(3).normal(size=logits.shape)
    order = np.random.default_rng(4).permutation(len(labels))
    plain = assess(_model(changed, labels, groups), _model(logits, labels, groups), CFG)
    mixed = assess(
        _model(changed[order], labels[order], groups[order]),
        _model(logits[order], labels[order], groups[order]), CFG,
    )  # fmt: skip
    assert metrics_of(Arm, *mixed) == pytest.approx(metrics_of(Arm, *plain), abs=1e-5)
    assert _outcomes(mixed[1]) == _outcomes(plain[1])


@settings(max_examples=6, deadline=None)
@given(st.permutations([0, 1, 2]))
def test_renaming_the_classes_renames_the_results(to: list[int]) -> None:
    logits, labels, groups = lesions([80, 40, 20])
    changed = logits + 0.5 * np.random.default_rng(3).normal(size=logits.shape)
    new = np.array(to)
    back = np.argsort(new)
    names = [NAMES[k] for k in back]

    def renamed(x: np.ndarray) -> Arm:
        val = x[:, back], new[labels]
        return classifier(*val, groups, names, ["rare"], val=val)

    plain = assess(_model(changed, labels, groups), _model(logits, labels, groups), CFG)
    other = assess(renamed(changed), renamed(logits), CFG)
    a, b = metrics_of(Arm, *plain), metrics_of(Arm, *other)
    assert set(a) == set(b)
    for name in a:
        if not name.endswith(("_low", "_high")):  # the resamples are drawn in class order
            assert b[name] == pytest.approx(a[name], abs=1e-9), name
    for k in range(3):
        assert (
            other[0].per_class[new[k]].metrics["recall"] == plain[0].per_class[k].metrics["recall"]
        )


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_estimates_lie_in_their_intervals_and_bounds(seed: int) -> None:
    logits, labels, groups = lesions([30, 15, 8], seed=seed, strength=1.5)
    changed = logits + np.random.default_rng(seed).normal(size=logits.shape)
    safety, verdict = assess(_model(changed, labels, groups), _model(logits, labels, groups), CFG)
    for name, row in safety.metrics.items():
        estimate, low, high = row
        assert 0 <= low <= estimate <= high, name
        if TASK.metric(name).share:
            assert high <= 1, name
    for estimate, low, high in verdict.differences.values():
        assert low <= estimate <= high
    assert (np.sum(safety.confusion, axis=1) == np.bincount(labels)).all()


def test_groups_that_span_classes_are_assessed() -> None:
    logits, labels, _ = lesions([80, 40, 20])
    groups = np.random.default_rng(0).integers(0, 90, len(labels))
    safety, verdict = assess(_model(logits, labels, groups), _model(logits, labels, groups), CFG)
    assert np.isfinite(list(safety.metrics["auc_macro"])).all()
    assert verdict.bootstrap.groups == len(np.unique(groups))


def test_metric_names_suit_mlflow() -> None:
    logits, labels, groups = lesions([40, 20, 10])
    names = ["nevus (benign)", "bowen's", "rare"]
    model = classifier(logits, labels, groups, names, ["rare"])
    found = metrics_of(Arm, *assess(model, model, CFG))
    assert "recall_nevus__benign_" in found
    assert found["verdict_code"] == 0.0  # the same model, but too few cases


def test_rare_classes_must_be_classes() -> None:
    with pytest.raises(UserError, match=naming("rare_classes", "'rarest'")):
        classifier(np.zeros((3, 3)), np.zeros(3, int), np.arange(3), NAMES, ["rarest"])


@pytest.mark.parametrize("classes", [2, 4])
def test_no_rare_class_and_any_number_of_classes(classes: int) -> None:
    logits, labels, groups = lesions([150] * classes)
    names = [str(k) for k in range(classes)]
    model = classifier(logits, labels, groups, names, [])
    safety, verdict = assess(model, model, CFG)
    assert set(_outcomes(verdict)) == {"balanced_accuracy", "auc_macro", "ece"}
    assert safety.metrics["rare_recall"].estimate is None
    auc, _, _ = safety.metrics["auc_macro"]
    assert auc > 0.9


def test_enough_cases_but_no_pass_is_told_as_a_possible_loss() -> None:
    row = of_difference(-0.06, 0.001, cases_needed=400)
    assert row.outcome == "inconclusive"
    assert row.cases_needed is None
    assert "a real loss is possible" in row.reason


def test_real_lesions_of_ham10000_are_too_few_for_the_rarest_classes(shared_data: Path) -> None:
    """A fifth of the lesions, predictions that barely change: df and vasc stay open, nothing fails."""
    with (shared_data / "ham10000/HAM10000_metadata.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    names, labels = np.unique([row["dx"] for row in rows], return_inverse=True)
    groups = np.unique([row["lesion_id"] for row in rows], return_inverse=True)[1]
    test = np.random.default_rng(0).random(groups.max() + 1)[groups] < 0.2
    labels, groups = labels[test], groups[test]
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(len(labels), 7)) + 3 * np.eye(7)[labels]
    models = [
        classifier(x, labels, groups, names.tolist(), ["df", "vasc"])
        for x in (logits, logits + 0.05 * rng.normal(size=logits.shape))
    ]
    safety, verdict = assess(models[1], models[0], CFG)
    found = _outcomes(verdict)
    assert (found["recall_df"], found["recall_vasc"]) == ("inconclusive", "inconclusive")
    assert "fail" not in found.values()
    assert verdict.verdict == "inconclusive"
    effect = safety.per_class[names.tolist().index("df")].metrics["recall"].design_effect
    assert effect is not None
    assert 1.0 <= effect < 3.0
