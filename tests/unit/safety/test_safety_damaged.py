"""Models that are damaged on purpose, at the size and prevalence of the drawn test set: which of them pass?"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from safety_cases import classifier, config, lesions

from edgeward.records.safety import Decision, Verdict
from edgeward.safety.comparison import assess
from edgeward.tasks.multiclass.assess import Arm

CLASSES = ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
RARE, CRITICAL = ["df", "vasc"], ["mel", "bcc", "akiec"]
IMAGES = {"akiec": 653, "bcc": 1026, "bkl": 2194, "df": 230, "mel": 2223, "nv": 13390, "vasc": 283}
MEL = CLASSES.index("mel")
CFG = config(resamples=200)


@cache
def drawn(split: str, share: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits that find about 72 % of every class, labels and groups of 1.5 images on average."""
    groups = [max(int(n * share / 1.5), 2) for n in IMAGES.values()]
    return lesions(groups, seed={"test": 0, "val": 1}[split], strength=2.3, most=2)


def model(test: np.ndarray, val: np.ndarray, share: float = 1.0) -> Arm:
    _, labels, groups = drawn("test", share)
    known = val, drawn("val", 0.1)[1]
    return classifier(test, labels, groups, CLASSES, RARE, val=known, critical=CRITICAL)


def verdict(test: np.ndarray, val: np.ndarray | None = None, share: float = 1.0) -> Verdict:
    """Judge a model by its logits against the undamaged one."""
    plain, plain_val = drawn("test", share)[0], drawn("val", 0.1)[0]
    damaged = model(test, plain_val if val is None else val, share)
    return assess(damaged, model(plain, plain_val, share), CFG)[1]


def of_mel(found: Verdict) -> Decision:
    return next(row for row in found.decisions if row.name == "mel")


@pytest.mark.parametrize("constant", [-0.25, -0.5, -0.75, -1.0])
def test_a_shifted_logit_does_not_pass_and_is_recognised(constant: float) -> None:
    move = np.zeros(len(CLASSES))
    move[MEL] = constant
    found = verdict(drawn("test")[0] + move, drawn("val", 0.1)[0] + move)
    row = next(e for e in found.endpoints if e.metric == "recall_mel")
    assert row.difference.estimate is not None
    assert row.difference.estimate < 0.1 * constant
    assert found.verdict != "pass"
    if constant <= -0.5:
        assert row.outcome == "fail"
    cause = of_mel(found)
    assert cause.cause == "threshold"
    assert cause.auc.estimate == pytest.approx(0, abs=1e-9)
    assert cause.aligned.estimate == pytest.approx(0, abs=0.01)
    assert cause.offset - np.mean([row.offset for row in found.decisions if row.name != "mel"]) == (
        pytest.approx(-constant, abs=0.05)
    )


@pytest.mark.parametrize("share", [0.05, 0.08, 0.1])
def test_melanomas_lost_outright_do_not_pass(share: float) -> None:
    logits, labels, _ = drawn("test")
    found_before = np.flatnonzero((labels == MEL) & (logits.argmax(axis=1) == MEL))
    lost = np.random.default_rng(0).choice(
        found_before, int(share * len(found_before)), replace=False
    )
    damaged = logits.copy()
    damaged[lost, MEL] = -9.0
    found = verdict(damaged)
    assert found.verdict != "pass"
    row = next(e for e in found.endpoints if e.metric == "recall_mel")
    assert row.outcome != "pass"
    assert row.surely_worse
    assert ("worse for sure" in row.reason) == (row.outcome == "inconclusive")
    assert of_mel(found).cause != "threshold"


def test_what_no_endpoint_looks_at_is_named_all_the_same() -> None:
    """bkl is neither rare nor critical: a loss there fails nothing, and is said."""
    move = np.zeros(len(CLASSES))
    move[CLASSES.index("bkl")] = -0.2
    found = verdict(drawn("test")[0] + move, drawn("val", 0.1)[0] + move)
    assert [loss.subset for loss in found.also_lost] == ["bkl"]
    assert found.also_lost[0].p_holm < 1e-3
    same = verdict(drawn("test")[0])
    assert same.also_lost == []
    assert all(row.cause == "none" for row in same.decisions)


def test_the_same_model_passes() -> None:
    assert verdict(drawn("test")[0]).verdict == "pass"


def test_twenty_cases_of_a_rare_class_are_inconclusive() -> None:
    found = verdict(drawn("test", 0.08)[0], share=0.08)
    outcomes = {row.metric: row.outcome for row in found.endpoints}
    assert outcomes["recall_df"] == "inconclusive"
    assert found.verdict == "inconclusive"


def test_floors_and_margins_of_a_class() -> None:
    logits, labels, groups = drawn("test")
    floors = {"mel": 0.9, "nv": 0.5}
    val = drawn("val", 0.1)[:2]
    strict = classifier(logits, labels, groups, CLASSES, [], critical=[], floors=floors, val=val)
    found = assess(strict, strict, CFG)[1]
    rows = {row.name: row for row in found.endpoints}
    assert rows["least recall of mel"].outcome == "fail"
    assert rows["least recall of mel"].floor == 0.9
    assert "least allowed 0.9: beyond it for sure" in rows["least recall of mel"].reason
    assert rows["least recall of nv"].outcome == "pass"
    assert found.verdict == "fail"


def test_a_blurred_model_keeps_its_promise_with_larger_sets() -> None:
    """Conformal sets hold the true class as promised for any model; what a worse one costs is their size."""
    logits, labels, groups = drawn("test")
    val, val_labels, _ = drawn("val", 0.1)
    rng = np.random.default_rng(5)
    arms = []
    for noise in (0.0, 1.5):
        blurred = [x + noise * rng.normal(size=x.shape) for x in (logits, val)]
        arms.append(
            classifier(
                blurred[0], labels, groups, CLASSES, RARE, val=(blurred[1], val_labels),
                margins={"coverage": 0.1}, critical=CRITICAL,
            )
        )  # fmt: skip
    safety, found = assess(arms[1], arms[0], CFG)
    large = [row for row in safety.per_class if row.n > 1000]
    for row in large:
        assert row.metrics["set_coverage"].estimate == pytest.approx(0.9, abs=0.05), row.name
    size, risk = found.differences["set_size"], found.differences["selective_risk"]
    assert size.low is not None
    assert size.low > 0.3
    assert risk.low is not None
    assert risk.low > 0.05
    judged = {row.metric: row.outcome for row in found.endpoints}
    assert judged["set_coverage_mel"] == "pass"
    assert judged["recall_mel"] == "fail"
    assert safety.selective["coverage"][-1] == 1
