"""Subgroups of the test cases: which they are, whether they differ, and what a small one may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from refusals import naming
from safety_cases import classifier, config, lesions
from statsmodels.stats.meta_analysis import combine_effects

from edgeward.core.errors import UserError
from edgeward.records.base import Interval
from edgeward.records.safety import Verdict
from edgeward.safety.comparison import assess
from edgeward.safety.strata import strata
from edgeward.statistics.heterogeneity import cochran
from edgeward.tasks.assessment import Cases
from edgeward.tasks.multiclass.assess import Arm

NAMES = ["common", "middling", "rare"]
CLINICS = np.array(["north", "south"])


def cases(columns: Mapping[str, list[str]]) -> Cases:
    n = len(next(iter(columns.values())))
    arrays = {name: np.array(values) for name, values in columns.items()}
    return Cases(np.arange(n), np.zeros(n, int), np.arange(n), ["a", "b"], [], arrays)


def test_values_bands_and_what_is_not_known() -> None:
    given = cases(
        {"age": ["39.9", "40", "", "60", "12", "85"], "sex": ["f", "m", "f", "", "m", "m"]}
    )
    found = strata(given, {"age": [40, 60], "sex": None})
    assert [(s.name, np.flatnonzero(s.where).tolist()) for s in found] == [
        ("age below 40", [0, 4]),
        ("age 40 to 60", [1]),
        ("age from 60", [3, 5]),
        ("age unknown", [2]),
        ("sex f", [0, 2]),
        ("sex m", [1, 4, 5]),
        ("sex unknown", [3]),
    ]
    assert [s.name for s in found if not s.known] == ["age unknown", "sex unknown"]


def test_a_column_that_is_not_there_or_no_number_is_refused() -> None:
    given = cases({"age": ["39", "old"]})
    with pytest.raises(UserError, match=naming("agee", "age", "data.strata")):
        strata(given, {"agee": None})
    with pytest.raises(UserError, match=naming("data.strata.age", "old")):
        strata(given, {"age": [40]})


def test_cochran_is_that_of_statsmodels() -> None:
    change, se = np.array([-0.01, 0.02, -0.05, 0.0]), np.array([0.01, 0.02, 0.015, 0.03])
    z = 1.959963984540054
    rows = [Interval.of(d, d - z * s, d + z * s) for d, s in zip(change, se, strict=True)]
    theirs = combine_effects(change, se**2)
    q, p = cochran(rows, 0.95)
    assert q == pytest.approx(theirs.q, rel=1e-9)
    assert p == pytest.approx(theirs.test_homogeneity().pvalue, rel=1e-9)


@pytest.mark.parametrize(("lost", "least", "most"), [(0.0, 0.0, 0.08), (0.1, 0.9, 1.0)])
def test_interaction_holds_its_level_and_has_power(lost: float, least: float, most: float) -> None:
    """Score intervals of 3 groups of 600 cases each, changes of 6 %, in one of them 7 % of losses on top."""
    from edgeward.statistics.paired import paired_share

    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        rows = []
        for k in range(3):
            before = rng.random(600) < 0.7
            flips = rng.random(600) < 0.06
            after = before ^ flips
            after &= ~(rng.random(600) < (lost if k == 0 else 0))
            labels, groups = np.zeros(600, int), np.arange(600)
            rows.append(paired_share(before, after, labels, groups, 0.95).interval)
        found.append(cochran(rows, 0.95)[1] < 0.05)
    assert least <= np.mean(found) <= most


def model(logits: np.ndarray, labels: np.ndarray, groups: np.ndarray, clinic: np.ndarray) -> Arm:
    made = classifier(logits, labels, groups, NAMES, [])
    made.cases = replace(made.cases, columns={"clinic": clinic})
    return made


def judged(share: float, south: float = 0.5, **changes: Any) -> Verdict:
    """Judge a model that loses a share of the right decisions in the south, and nothing elsewhere."""
    logits, labels, groups = lesions([900, 500, 400])
    rng = np.random.default_rng(3)
    clinic = CLINICS[(rng.random(groups.max() + 1) < south).astype(int)[groups]]
    right = np.flatnonzero((logits.argmax(axis=1) == labels) & (clinic == "south"))
    lost = rng.choice(right, int(share * np.sum(clinic == "south")), replace=False)
    damaged = logits.copy()
    damaged[lost, labels[lost]] -= 9
    cfg = config(strata={"clinic": None}, **changes)
    return assess(
        model(damaged, labels, groups, clinic), model(logits, labels, groups, clinic), cfg
    )[1]


def test_a_loss_in_one_subgroup_is_named_and_an_interaction() -> None:
    found = judged(0.05)
    rows = {row.value: row for row in found.strata}
    assert rows["south"].differences["accuracy"].estimate == pytest.approx(-0.05, abs=0.003)
    assert rows["north"].differences["accuracy"].estimate == 0
    assert any(loss.subset == "clinic south" for loss in found.also_lost)
    assert not any(loss.subset == "clinic north" for loss in found.also_lost)
    (test,) = found.interactions
    assert (test.column, test.freedom) == ("clinic", 1)
    assert test.p_holm is not None
    assert test.p_holm < 0.001


def test_the_same_model_differs_nowhere() -> None:
    found = judged(0.0)
    assert not any(loss.subset.startswith("clinic") for loss in found.also_lost)
    assert found.interactions[0].p == pytest.approx(1)


def test_subgroups_are_endpoints_if_asked_for() -> None:
    found = judged(0.05, stratum_margin=0.03)
    outcomes = {row.class_name: row for row in found.endpoints if row.metric.startswith("accuracy")}
    assert outcomes["clinic north"].outcome == "pass"
    assert outcomes["clinic south"].outcome == "fail"
    assert found.verdict == "fail"


def test_a_subgroup_that_is_too_small_says_so() -> None:
    found = judged(0.0, south=0.01, stratum_margin=0.2)
    small = next(row for row in found.strata if row.value == "south")
    assert not small.enough
    assert small.n_groups < 30
    row = next(row for row in found.endpoints if row.class_name == "clinic south")
    assert row.outcome == "inconclusive"
    assert "too few, needed 30" in row.reason
    assert found.interactions == []
