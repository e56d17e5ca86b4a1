"""Models of the folds of a cross-validation judged as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safety_cases import classifier, config, lesions
from scipy import stats

from edgeward.records.safety import Verdict
from edgeward.safety.comparison import assess
from edgeward.safety.folds import Folds
from edgeward.safety.pooled import Recipe, pool_folds
from edgeward.statistics.bootstrap import resample
from edgeward.tasks.assessment import Arm, Key, Share, difference, interval

CLASSES, RARE = ["x", "y", "z"], ["z"]
Cut = tuple[np.ndarray, np.ndarray, np.ndarray]


def folds_of(logits: np.ndarray, labels: np.ndarray, groups: np.ndarray, k: int = 4) -> list[Cut]:
    return [(logits[at], labels[at], groups[at]) for at in (groups % k == i for i in range(k))]


def arms(parts: list[Cut]) -> list[Arm]:
    val = parts[0][:2]
    return [classifier(*part, CLASSES, RARE, val=val, critical=["y"]) for part in parts]


def test_one_model_cut_into_folds_is_that_model() -> None:
    logits, labels, groups = lesions([200, 120, 60], strength=2.0)
    parts = folds_of(logits, labels, groups)
    whole = classifier(logits, labels, groups, CLASSES, RARE, val=parts[0][:2])
    joined = Folds(arms(parts))
    assert len(joined.cases) == len(labels)
    assert joined.cases.n_groups() == whole.cases.n_groups()
    np.testing.assert_array_equal(joined.confusion, whole.confusion)
    for key in [Key("accuracy"), Key("balanced_accuracy"), *(Key("recall", k) for k in CLASSES)]:
        assert joined.value(key) == pytest.approx(whole.value(key), abs=1e-12), key
    drawn = resample({"a": joined}, joined.strata, joined.cases.groups, 400, 1)["a"]
    for key in joined.keys:
        assert (
            interval(joined, key, drawn, 0.95).known
            == interval(
                whole, key, whole.replicates(np.ones((len(labels), 400), np.float32)), 0.95
            ).known
        ), key
        if key in drawn and key not in joined.biased:
            assert np.nanmean(drawn[key]) == pytest.approx(joined.value(key), abs=0.02), key


def test_scores_of_different_models_are_not_ranked_together() -> None:
    logits, labels, groups = lesions([200, 120, 60], strength=2.0)
    parts = folds_of(logits, labels, groups)
    uneven = [(part[0] * (0.2 + 1.5 * i), *part[1:]) for i, part in enumerate(parts)]
    before, after = Folds(arms(parts)), Folds(arms(uneven))
    # A scale of all logits changes no ranks of two classes, and few of three; pooled, it shuffles models together.
    whole = [
        classifier(
            np.concatenate([p[0] for p in some]),
            np.concatenate([p[1] for p in some]),
            np.concatenate([p[2] for p in some]),
            CLASSES,
            RARE,
        ).value(Key("auc", "x"))
        for some in (parts, uneven)
    ]
    found = [arm.value(Key("auc", "x")) for arm in (before, after)]
    assert abs(found[1] - found[0]) < abs(whole[1] - whole[0]) / 2


def test_what_trainings_differ_widens_the_interval() -> None:
    logits, labels, groups = lesions([400, 240, 240], strength=2.0)
    parts = folds_of(logits, labels, groups)
    shifts = [-1.5, 0.0, 1.5, 0.0]
    changed = [
        (part[0] + shift * np.eye(3)[2], *part[1:])
        for part, shift in zip(parts, shifts, strict=True)
    ]
    before, after, key = Folds(arms(parts)), Folds(arms(changed)), Key("recall", "z")
    drawn = resample({"b": before, "a": after}, before.strata, before.cases.groups, 400, 1)
    both = drawn["b"], drawn["a"]
    found = difference(before, after, key, both, 0.95)
    alike = before.basis(key).against(after.basis(key), 0.95).interval  # type: ignore[union-attr, arg-type]
    assert found.estimate == pytest.approx(alike.estimate)
    assert found.bounded
    assert alike.bounded
    assert (found.high or 0) - (found.low or 0) > 1.5 * ((alike.high or 0) - (alike.low or 0))
    gaps = [a.value(key) - b.value(key) for b, a in zip(before.parts, after.parts, strict=True)]
    assert found.sd_seeds == pytest.approx(
        np.std(gaps, ddof=1), rel=0.15
    )  # weights differ a little
    same = difference(before, before, key, (both[0], both[0]), 0.95)
    assert same.sd_seeds == 0


def test_the_verdict_is_on_all_cases_and_names_moved_borders() -> None:
    logits, labels, groups = lesions([900, 700, 500], strength=2.5, most=1)
    parts = folds_of(logits, labels, groups)
    moved = [(part[0] - 0.9 * np.eye(3)[2], *part[1:]) for part in parts]
    # Thresholds are those of each model's own validation images.
    before = [classifier(*p, CLASSES, RARE, val=p[:2], critical=["y"]) for p in parts]
    after = [classifier(*p, CLASSES, RARE, val=p[:2], critical=["y"]) for p in moved]
    members: dict[Recipe, list[Arm]] = {
        ("m", "fp32"): [*before],
        ("m", "same"): [*before],
        ("m", "int8"): [*after],
    }
    found = pool_folds(members, {"m": "fp32"}, config())
    same, int8 = (row.verdict for row in found["verdicts"])
    assert same.verdict == "pass"
    assert int8.verdict == "fail"
    row = next(e for e in int8.endpoints if e.class_name == "z")
    assert row.n == 500
    assert row.n_groups == 500
    assert {d.name: d.cause for d in int8.decisions}["z"] == "threshold"
    assert [(d.recipe, d.against.recipe) for d in found["differences"]] == [
        ("same", "fp32"),
        ("int8", "fp32"),
    ]
    assert [(d.recipe, d.against.recipe) for d in found["between"]] == [("int8", "same")]
    of_int8 = found["differences"][1].metrics["recall_z"]
    assert of_int8 == int8.differences["recall_z"]


def test_what_is_left_with_borders_aligned_is_as_uncertain_as_trainings_differ() -> None:
    logits, labels, groups = lesions([900, 700, 500], strength=2.5, most=1)
    parts = folds_of(logits, labels, groups)
    rng = np.random.default_rng(0)
    noise = (0.0, 3.0, 0.0, 3.0)  # two of four trainings lose what no constant gives back
    worse = [
        (part[0] + sd * rng.normal(size=part[0].shape), *part[1:])
        for part, sd in zip(parts, noise, strict=True)
    ]
    before, after = (
        [classifier(x, y, g, CLASSES, RARE, val=(x, y), critical=["y"]) for x, y, g in some]
        for some in (parts, worse)
    )
    members: dict[Recipe, list[Arm]] = {("m", "fp32"): [*before], ("m", "int8"): [*after]}
    [row] = pool_folds(members, {"m": "fp32"}, config())["verdicts"]
    [z] = [d for d in row.verdict.decisions if d.name == "z"]
    gaps = []
    for b, a in zip(before, after, strict=True):
        aligned, basis = a.aligned(b), b.basis(Key("recall", "z"))
        assert aligned is not None
        assert isinstance(basis, Share)
        gaps.append(aligned.right[basis.where].mean() - basis.hit[basis.where].mean())
    half = stats.t.ppf(0.975, 3) * np.std(gaps, ddof=1) / 2
    assert half > 0.1
    _, low, high = z.aligned
    assert z.aligned.freedom == 3
    assert low == pytest.approx(max(-1, np.mean(gaps) - half), abs=0.03)
    assert high == pytest.approx(np.mean(gaps) + half, abs=0.03)


def test_what_one_training_loses_is_not_what_the_recipe_loses() -> None:
    logits, labels, groups = lesions([900, 700, 500], strength=2.5, most=1)
    parts = folds_of(logits, labels, groups)
    down = -1.5 * np.eye(3)[0]

    def verdict(hit: range) -> Verdict:
        changed = [(p[0] + down * (i in hit), *p[1:]) for i, p in enumerate(parts)]
        members: dict[Recipe, list[Arm]] = {
            ("m", "fp32"): arms(parts),
            ("m", "int8"): arms(changed),
        }
        [row] = pool_folds(members, {"m": "fp32"}, config())["verdicts"]
        return row.verdict

    one, every = verdict(range(1)), verdict(range(4))
    assert one.per_class[0].mcnemar_p_holm is not None
    assert one.per_class[0].mcnemar_p_holm < 1e-6, "beyond chance for these very models"
    assert "x" not in {loss.subset for loss in one.also_lost}
    assert "x" in {loss.subset for loss in every.also_lost}
    needed = {e.name: e.cases_needed for e in one.endpoints if e.outcome == "inconclusive"}
    assert needed, "trainings differ, so nothing is shown"
    assert set(needed.values()) == {None}, "and no number of cases would show it"


def test_subgroups_of_folds() -> None:
    logits, labels, groups = lesions([400, 240, 120], strength=2.0)
    joined = Folds(arms(folds_of(logits, labels, groups)))
    where = joined.cases.groups < np.median(joined.cases.groups)
    part = joined.restricted(where)
    np.testing.assert_array_equal(part.cases.labels, joined.cases.labels[where])
    share = part.basis(Key("accuracy"))
    assert isinstance(share, Share)
    assert share.n == where.sum()
    one_fold = joined.restricted(joined.cases.groups % 4 == 2)
    assert len(one_fold.parts) == 1
    assert one_fold.spread(Key("accuracy"), None) is None


def test_what_is_measured_is_a_model_of_one_fold(tmp_path: Path) -> None:
    joined = Folds(arms(folds_of(*lesions([60, 60, 60]))))
    with pytest.raises(NotImplementedError):
        joined.write(tmp_path)
    assert assess(joined, None, config())[0].facts == {"folds": 4}
