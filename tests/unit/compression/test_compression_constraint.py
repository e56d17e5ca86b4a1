"""The safety constraint: its functions in closed form, the multipliers, acceptance, the search's logic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import naming
from safety_cases import cases_of
from small_data import meta
from torch import nn
from torch.nn import functional

from edgeward.compression.constraint.acceptance import accept
from edgeward.compression.constraint.limits import Limits
from edgeward.compression.constraint.losses import (
    decision_confidence,
    kernel_ece,
    natural_weights,
    soft_recall,
)
from edgeward.compression.constraint.search import by_harm_per_cost, greedy
from edgeward.compression.constraint.simulated import search_images
from edgeward.compression.constraint.training import (
    Multipliers,
    SafetyConstraint,
    balanced_batch,
)
from edgeward.core.errors import UserError
from edgeward.data.store import Prepared
from edgeward.statistics.temperature import fit_temperature
from edgeward.tasks.config import AugmentConfig
from edgeward.tasks.multiclass.assess import Arm
from edgeward.training.config import AcceptanceConfig, ConstraintConfig, SafetyLimits

ACCEPTANCE: dict[str, Any] = {
    "margins": {"recall": 0.05, "ece": 0.02},
    "confidence_level": 0.95,
    "resamples": 400,
    "ece_bins": 10,
}


def sample(n: int = 40, classes: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    logits = torch.randn(n, classes, generator=generator, dtype=torch.float64)
    return logits + 1.5 * functional.one_hot(labels, classes), labels


def test_soft_recall_has_its_closed_form() -> None:
    logits = torch.tensor([[2.0, 0.0, -5.0], [0.0, 3.0, 1.0], [1.0, 1.0, 0.0]])
    labels = torch.tensor([0, 0, 1])
    found = soft_recall(logits, labels, [0, 1], temperature=2.0)
    sigmoid = 1 / (1 + np.exp(-np.array([2.0, -3.0]) / 2))
    np.testing.assert_allclose(found, [sigmoid.mean(), 0.5], rtol=1e-6)


def test_cold_soft_recall_is_recall() -> None:
    logits, labels = sample()
    hard = [(logits.argmax(1) == labels)[labels == k].double().mean() for k in range(3)]
    np.testing.assert_allclose(soft_recall(logits, labels, [0, 1, 2], 1e-4), hard, atol=1e-6)


def test_the_shift_moves_confidence_but_no_decision() -> None:
    """At the natural prevalence the rare class is improbable, and still it is the decision."""
    logits = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    shift = torch.log(torch.tensor([0.9, 0.1], dtype=torch.float64))
    confidence, correct = decision_confidence(logits, torch.tensor([1]), shift)
    assert correct.tolist() == [1.0]
    np.testing.assert_allclose(confidence, [0.1 * np.e / (0.9 + 0.1 * np.e)])


def test_kernel_ece_between_its_two_limits() -> None:
    """A wide kernel sees the mean gap only; a narrow one sees every image alone."""
    confidence = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    correct = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    weights = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    residual = confidence - correct
    wide, narrow = (
        kernel_ece(confidence, correct, weights, 1e6),
        kernel_ece(confidence, correct, weights, 1e-3),
    )
    np.testing.assert_allclose(wide, abs((weights * residual).sum()), rtol=1e-9)
    np.testing.assert_allclose(narrow, (weights * residual.abs()).sum(), rtol=1e-9)


@given(st.floats(0.02, 0.98), st.integers(0, 20), st.floats(0.01, 1.0))
@settings(max_examples=30, deadline=None)
def test_kernel_ece_of_one_confidence_is_its_gap(said: float, right: int, bandwidth: float) -> None:
    correct = torch.zeros(20, dtype=torch.float64)
    correct[:right] = 1
    found = kernel_ece(
        torch.full((20,), said, dtype=torch.float64),
        correct,
        torch.full((20,), 0.05, dtype=torch.float64),
        bandwidth,
    )
    assert float(found) == pytest.approx(abs(said - right / 20), abs=1e-9)


def test_balanced_images_speak_for_the_natural_prevalence() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    weights = natural_weights(labels, torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64))
    np.testing.assert_allclose(weights, [0.35, 0.35, 0.1, 0.1, 0.05, 0.05])


@pytest.mark.parametrize("which", range(2))
def test_gradients_agree_with_finite_differences(limits: Limits, which: int) -> None:
    logits, labels = sample(n=24)
    logits.requires_grad_(True)
    other = sample(n=24, seed=1)[0]
    assert torch.autograd.gradcheck(
        lambda z: limits.violations(z, other, labels)[which], (logits,), eps=1e-6, atol=1e-5
    )
    value = limits.violations(logits, other, labels)
    grad = torch.autograd.grad(value.sum(), logits)[0]
    assert float(grad.abs().sum()) > 0


@pytest.fixture(scope="module")
def limits(small_prepared: Prepared) -> Limits:
    cfg = SafetyLimits(
        margins={"recall": 0.03, "ece": 0.01},
        recall_temperature=0.7,
        ece_bandwidth=0.15,
        acceptance=ACCEPTANCE,
    )
    return Limits.of(cfg, small_prepared, meta(logit_shift=[0.1, 0.0, -0.4]))


def test_a_network_violates_nothing_against_itself(limits: Limits) -> None:
    logits, labels = sample()
    assert limits.names == ["recall_rare", "ece"]
    found = limits.violations(logits, logits.clone(), labels)
    np.testing.assert_allclose(found, [-0.03, -0.01], atol=1e-12)


def test_violations_have_the_right_sign(limits: Limits) -> None:
    logits, labels = sample()
    worse = logits.clone()
    worse[labels == 2, 2] -= 2.0
    assert limits.violations(worse, logits, labels)[0] > 0.1
    assert limits.violations(logits, worse, labels)[0] < -0.1
    # Ten times the logits: the same decisions, far too sure of them.
    found = limits.violations(10 * logits, logits, labels)
    assert found[1] > 0.05


def test_data_without_a_rare_class_is_refused(small_prepared: Prepared, limits: Limits) -> None:
    bare = replace(small_prepared, card=small_prepared.card.model_copy(update={"rare_classes": []}))
    with pytest.raises(UserError, match=naming("'rare'", "config/data/", "finetune.constraint")):
        Limits.of(limits.cfg, bare, meta())


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_dual_ascent_finds_the_karush_kuhn_tucker_point(penalty: float) -> None:
    """With the penalty, too: min (x-2)^2 + (y-1)^2 with x + y <= 1 and x <= 5: x = 1, y = 0, multipliers 2 and 0."""
    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    multipliers = Multipliers(2, rate=0.1, largest=10.0, penalty=penalty)
    target = torch.tensor([2.0, 1.0], dtype=torch.float64)
    for _ in range(2000):
        violations = torch.stack([x.sum() - 1, x[0] - 5])
        loss = ((x - target) ** 2).sum() + multipliers.weights @ violations
        (gradient,) = torch.autograd.grad(loss, x)
        with torch.no_grad():
            x -= 0.05 * gradient
        multipliers.ascend(violations.detach())
    np.testing.assert_allclose(x.detach(), [1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(multipliers.values, [2.0, 0.0], atol=1e-6)


def test_multipliers_stay_within_their_limits() -> None:
    multipliers = Multipliers(2, rate=1.0, largest=0.5)
    multipliers.ascend(torch.tensor([3.0, -3.0], dtype=torch.float64))
    assert multipliers.values.tolist() == [0.5, 0.0]


def test_a_penalty_answers_at_once_and_is_gone_with_the_violation() -> None:
    multipliers = Multipliers(1, rate=1.0, largest=10.0, penalty=10.0)
    multipliers.ascend(torch.tensor([0.05], dtype=torch.float64))
    assert multipliers.values.item() == pytest.approx(0.05)
    assert multipliers.weights.item() == pytest.approx(0.05 + 0.5)
    multipliers.ascend(torch.tensor([-0.01], dtype=torch.float64))
    assert multipliers.values.item() == pytest.approx(0.04)
    assert multipliers.weights.item() == 0.0
    multipliers.ascend(torch.tensor([3.0], dtype=torch.float64))
    assert multipliers.weights.item() == 10.0


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_constraint_batch_has_as_many_of_every_class(
    small_prepared: Prepared, split: Literal["train", "val"]
) -> None:
    indices = balanced_batch(small_prepared, split, 31, seed=0, step=3)
    assert np.bincount(small_prepared.labels[indices]).tolist() == [10, 10, 10]
    assert set(small_prepared.splits[indices]) == {split}
    again = balanced_batch(small_prepared, split, 31, seed=0, step=3)
    np.testing.assert_array_equal(indices, again)
    assert set(indices) != set(balanced_batch(small_prepared, split, 31, seed=0, step=4))
    with pytest.raises(UserError, match=naming("finetune.constraint.batch_size", 5, 6)):
        balanced_batch(small_prepared, split, 5, seed=0, step=0)


class Colour(nn.Module):
    """Tells the classes of the small data by their mean colour, as well as `skill` lets it."""

    def __init__(self, skill: float) -> None:
        super().__init__()
        self.skill = nn.Parameter(torch.tensor(skill))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.skill * (images.mean(dim=(2, 3)) - 140) / 20


@pytest.mark.parametrize("split", ["train", "val"])
def test_weights_feel_the_constraint_once_it_is_violated(
    small_prepared: Prepared, limits: Limits, split: Literal["train", "val"]
) -> None:
    """Worse than its reference: no gradient at first, then one that asks for more skill."""
    cfg = ConstraintConfig(
        **limits.cfg.model_dump(), batch_size=30, every=3, multipliers_from=split, dual_rate=1.0,
        penalty=0.0, largest_multiplier=10.0,
    )  # fmt: skip
    still = AugmentConfig(
        flips=False, rotate90=False, degrees=0, scale=0, translate=0, brightness=0, contrast=0,
        colour=0,
    )  # fmt: skip
    reference, model = Colour(1.0), Colour(0.1)
    constraint = SafetyConstraint(limits, cfg, still, small_prepared, reference, seed=0)
    constraint.backward(model, 0)
    assert model.skill.grad is None
    assert constraint.multipliers.values[0] > 0.1
    state = constraint.state_dict()
    constraint.backward(model, 3)
    assert model.skill.grad is not None
    assert model.skill.grad < 0
    assert reference.skill.grad is None
    row = constraint.close_epoch()
    assert row["violation_recall_rare"] > 0.1
    assert row["multiplier_recall_rare"] > float(state["multipliers"][0])
    again = SafetyConstraint(limits, cfg, still, small_prepared, reference, seed=0)
    again.load_state_dict(state)
    other = Colour(0.1)
    again.backward(other, 3)
    assert torch.equal(other.skill.grad, model.skill.grad)


def test_a_rare_class_must_be_there_to_be_protected(small_prepared: Prepared) -> None:
    val = small_prepared.splits == "val"
    splits = np.where(val & (small_prepared.labels == 2), "test", small_prepared.splits)
    with pytest.raises(
        UserError, match=naming("'val'", "rare", "finetune.constraint.multipliers_from")
    ):
        balanced_batch(replace(small_prepared, splits=splits), "val", 30, seed=0, step=0)


def population(n: int = 3000) -> dict[str, Any]:
    """Calibrated logits on three classes, the last of them rare."""
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (n, 3)) + np.array([1.0, 0.0, -1.0])
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    labels = (rng.random((n, 1)) > p.cumsum(1)).sum(1)
    return {"logits": logits, "labels": labels}


def judged(compressed: np.ndarray, **facts: Any) -> dict[str, Any]:
    labels, cfg = facts["labels"], AcceptanceConfig(**ACCEPTANCE)
    cases = cases_of(labels, np.arange(len(labels)), ["a", "b", "c"], ["c"])
    before, after = (Arm(cases, cfg, x, np.zeros(3), 1.0) for x in (facts["logits"], compressed))
    return accept(before, after, cfg, seed=0)


def test_what_is_as_good_is_accepted_and_what_is_worse_is_not() -> None:
    facts = population()
    noise = np.random.default_rng(0).normal(0, 0.02, facts["logits"].shape)
    same = judged(facts["logits"] + noise, **facts)
    assert same["accepted"]
    assert [row["metric"] for row in same["endpoints"]] == ["recall_c", "ece"]

    forgets = facts["logits"] - np.array([0.0, 0.0, 0.8])
    outcomes = {row["metric"]: row for row in judged(forgets, **facts)["endpoints"]}
    recall = outcomes["recall_c"]
    assert recall["outcome"] == "fail"
    mine = facts["labels"] == 2
    expected = (forgets.argmax(1) == 2)[mine].mean() - (facts["logits"].argmax(1) == 2)[mine].mean()
    assert recall["difference"]["estimate"] == pytest.approx(expected)

    sure = judged(3 * facts["logits"], **facts)
    assert not sure["accepted"]
    assert [row["outcome"] for row in sure["endpoints"]] == ["pass", "fail"]


def test_few_rare_cases_accept_nothing() -> None:
    facts = population()
    kept = np.flatnonzero((facts["labels"] != 2) | (np.cumsum(facts["labels"] == 2) <= 12))
    few = {key: value[kept] for key, value in facts.items()}
    found = judged(few["logits"].copy(), **few)
    assert [row["outcome"] for row in found["endpoints"]] == ["inconclusive", "pass"]
    assert not found["accepted"]


def test_temperature_takes_the_shift_into_account() -> None:
    """Logits three times too large, whose shift belongs to what is not: T is 3, decisions stay."""
    facts = population(6000)
    shift = np.array([-0.3, 0.0, 0.9])
    logits = 3 * (facts["logits"] - shift)
    found = fit_temperature(logits, facts["labels"], shift, least=0.1, most=10.0)
    assert found == pytest.approx(3.0, rel=0.05)
    assert ((logits / found).argmax(1) == logits.argmax(1)).all()
    right = np.eye(3)[facts["labels"]]
    assert fit_temperature(right, facts["labels"], least=0.1) == pytest.approx(0.1, rel=1e-6)


HARM = {"a": 0.05, "b": 0.04, "c": 0.01, "d": 0.0, "e": -0.01}


def test_order_is_harm_per_cost_then_no_harm() -> None:
    cost = {"a": 5.0, "b": 1.0, "c": -1.0, "d": 0.1, "e": 0.1}
    assert by_harm_per_cost(HARM, cost) == ["c", "b", "a", "d", "e"]


def test_the_search_stops_when_it_holds_and_takes_back_what_was_in_vain() -> None:
    """b and c together suffice; a, tried first, turns out to be needless and is the dearest."""
    price = {"a": 5.0, "b": 2.0, "c": 2.0, "d": 1.0}
    tried: list[list[str]] = []

    def measure(floating: Sequence[str]) -> torch.Tensor:
        tried.append(list(floating))
        return torch.tensor([0.029 - 0.01 * ("a" in floating) - 0.02 * ("b" in floating)
                             - 0.01 * ("c" in floating), -1.0])  # fmt: skip

    found = greedy(list("abcd"), measure, lambda names: sum(price[n] for n in names))
    assert found.holds
    assert ["a", "b", "c", "d"] not in tried
    assert sorted(found.floating) == ["a", "b"]  # holds at once; c is never needed

    def needless(floating: Sequence[str]) -> torch.Tensor:
        return torch.tensor([0.01 - 0.01 * ("c" in floating)])

    found = greedy(list("abcd"), needless, lambda names: sum(price[n] for n in names))
    assert (found.holds, found.floating) == (True, ["c"])


def test_an_unreachable_constraint_keeps_the_least_violation() -> None:
    values = {0: 0.05, 1: 0.02, 2: 0.04, 3: 0.03}
    found = greedy(list("abc"), lambda names: torch.tensor([values[len(names)]]), len)
    assert (found.holds, found.floating) == (False, ["a"])


def test_ranking_takes_the_rare_images_first(small_prepared: Prepared) -> None:
    pool = search_images(small_prepared, [2], "all", 0)
    assert set(pool) == set(small_prepared.indices("val")) | set(small_prepared.calibration)
    rare = pool[small_prepared.labels[pool] == 2]
    chosen = search_images(small_prepared, [2], len(rare) + 5, 0)
    assert set(rare) < set(chosen)
    assert len(chosen) == len(rare) + 5
