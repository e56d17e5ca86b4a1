"""Seeds pooled: against the closed forms of its parts, and coverage where the truth is known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from refusals import naming
from safety_cases import classifier, config, lesions
from scipy import stats

from edgeward.core.errors import UserError
from edgeward.core.io import plain
from edgeward.data.store import Prepared
from edgeward.records.safety import RecipeOfModel
from edgeward.safety.pooled import Recipe, pool, run
from edgeward.statistics.seeds import combine, satterthwaite
from edgeward.tasks.multiclass.assess import Arm
from edgeward.tasks.multiclass.exemplars import forgotten


def arm(values: list[float], spread: float, seed: int = 0) -> tuple[float, np.ndarray, np.ndarray]:
    """Seeds whose replicates all move together by `spread`."""
    noise = np.random.default_rng(seed).normal(0, spread, 4000)
    return 1.0, np.array(values), np.array(values)[:, None] + noise


def test_without_spread_of_cases_it_is_students_interval() -> None:
    values = [0.70, 0.74, 0.69, 0.75]
    found = combine([arm(values, 0.0)], 1000, 0.95)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)
    assert found.freedom == pytest.approx(3)


def test_without_spread_of_seeds_it_is_the_bootstrap() -> None:
    found = combine([arm([0.7, 0.7, 0.7], 0.01)], 100_000, 0.95)
    _, low, high = found
    assert high - low == pytest.approx(2 * 1.96 * 0.01, rel=0.04)
    assert found.sd_seeds == pytest.approx(0, abs=1e-12)


def test_satterthwaite_is_welchs_freedom() -> None:
    a, b = np.array([1.0, 2.0, 4.0]), np.array([0.5, 3.0, 3.5, 9.0])
    parts = [np.var(a, ddof=1) / 3, np.var(b, ddof=1) / 4]
    expected = stats.ttest_ind(a, b, equal_var=False).df
    assert satterthwaite(parts, [2, 3]) == pytest.approx(expected)


def test_a_difference_of_models_is_welchs_interval_if_cases_do_not_matter() -> None:
    a, b = [0.70, 0.74, 0.69], [0.60, 0.66, 0.65]
    _, other, replicates = arm(b, 0.0)
    found = combine([arm(a, 0.0), (-1.0, other, replicates)], 1000, 0.95, least=-1.0)
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_intervals_cover_the_mean_that_seeds_and_cases_vary_around() -> None:
    rng, hits, runs = np.random.default_rng(5), 0, 600
    for _ in range(runs):
        case_effect = rng.normal(0, 0.01)
        values = 0.5 + case_effect + rng.normal(0, 0.015, 3)
        replicates = values[:, None] + rng.normal(0, 0.01, 200)
        _, low, high = combine([(1.0, values, replicates)], 500, 0.95)
        hits += low <= 0.5 <= high
    assert 0.92 <= hits / runs <= 0.995


def members(shift: float) -> dict[Recipe, list[Arm]]:
    found: dict[Recipe, list[Arm]] = {("a", "fp32"): [], ("a", "int8"): [], ("b", "fp32"): []}
    for seed in range(3):
        logits, labels, groups = lesions([120, 60, 30], seed=0, strength=2.0)
        noise = np.random.default_rng(100 + seed)
        mine = logits + noise.normal(0, 0.3, logits.shape)
        for key, values in (
            (("a", "fp32"), mine),
            (("a", "int8"), mine - shift * np.eye(3)[2]),
            (("b", "fp32"), logits + noise.normal(0, 2.0, logits.shape)),
        ):
            found[key].append(classifier(values, labels, groups, ["x", "y", "z"], ["z"]))
    return found


def test_pool_compares_recipes_seed_by_seed_and_models_not() -> None:
    found = pool(members(0.8), {"a": "fp32", "b": "fp32"}, config())
    assert [(r.model, r.recipe) for r in found["rows"]] == [
        ("a", "fp32"), ("a", "int8"), ("b", "fp32"),
    ]  # fmt: skip
    recipe, model = found["differences"]
    assert (recipe.paired, model.paired) == (True, False)
    assert recipe.against == RecipeOfModel(model="a", recipe="fp32")
    assert model.against == RecipeOfModel(model="a", recipe="fp32")
    rows = {(r.model, r.recipe): r.metrics for r in found["rows"]}
    for name, value in recipe.metrics.items():
        (after, *_), (before, *_) = rows["a", "int8"][name], rows["a", "fp32"][name]
        assert value.estimate == pytest.approx(after - before, abs=1e-12)
    _, _, most = recipe.metrics["recall_z"]
    assert most < 0  # the shift takes cases of z away, and pairing shows it
    (_, low, _), (_, _, high) = rows["a", "fp32"]["auc_macro"], rows["b", "fp32"]["auc_macro"]
    assert high < low
    json.dumps([row.content() for row in found["rows"]], allow_nan=False)


def test_equal_recipes_differ_by_nothing() -> None:
    found = pool(members(0.0), {"a": "fp32", "b": "fp32"}, config())
    for value in found["differences"][0].metrics.values():
        assert tuple(value) == (0, 0, 0)


def test_recipes_are_compared_with_each_other() -> None:
    light, strong = members(0.4), members(0.8)
    both = {**light, ("a", "strong"): strong["a", "int8"], ("b", "int8"): light["b", "fp32"]}
    found = pool(both, {"a": "fp32", "b": "fp32"}, config())
    (change,) = found["between"]
    assert (change.model, change.recipe, change.paired) == ("a", "strong", True)
    assert change.against == RecipeOfModel(model="a", recipe="int8")
    to_reference = {
        r.recipe: next(iter(r.metrics["recall_z"])) for r in found["differences"] if r.model == "a"
    }
    expected = to_reference["strong"] - to_reference["int8"]
    estimate, _, high = change.metrics["recall_z"]
    assert estimate == pytest.approx(expected, abs=1e-12)
    assert high < 0


def test_exemplars_are_named_by_their_index_in_the_data() -> None:
    assessed = members(1.0)
    cases = assessed["a", "fp32"][0].cases
    n = len(cases)
    for arm in assessed["a", "int8"]:
        arm.cases = dataclasses.replace(cases, indices=1000 + np.arange(n))
    (found,) = forgotten(assessed, {"a": "fp32", "b": "fp32"}, config().seed)
    assert (found["model"], found["recipe"], found["against"]) == ("a", "int8", "fp32")
    modal = found["modal"]
    assert min(modal["images"]) >= 1000
    assert set(modal["labels"]["before"]) == {
        2
    }  # only decisions for z, whose logit fell, can change
    assert modal["rate"] == len(modal["images"]) / n
    assert len(found["rank"]["images"]) == round(0.05 * n)
    json.dumps(plain(found), allow_nan=False)


def test_seeds_must_be_the_same(small_prepared: Prepared, tmp_path: Path) -> None:
    folders = {
        ("a", "fp32"): {0: tmp_path, 1: tmp_path},
        ("a", "int8"): {0: tmp_path, 2: tmp_path},
    }
    with pytest.raises(UserError, match=naming("[[0, 1], [0, 2]]")):
        run(
            config(),
            prepared=small_prepared.root,
            folders=folders,
            references={"a": "fp32"},
            out=tmp_path / "pooled.json",
        )
    assert not (tmp_path / "pooled.json").exists()
