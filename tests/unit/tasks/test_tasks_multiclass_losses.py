"""Losses against their formulas, and the shift that undoes what they do to the logits."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.data.store import Prepared
from edgeward.tasks.batches import Sampling
from edgeward.tasks.multiclass.config import LossConfig
from edgeward.tasks.multiclass.losses import class_weights, logit_shift, make_loss, train_counts

COUNTS = np.array([600, 300, 100])
LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 0.3], [-3.0, 1.0, 4.0], [1.0, 1.0, 1.0]])
LABELS = torch.tensor([0, 2, 1, 2])


def config(name: str, **changes: Any) -> LossConfig:
    base: dict[str, Any] = {"tau": 1.0, "beta": 0.99, "gamma": 2.0, "label_smoothing": 0.0}
    return LossConfig(name=name, **{**base, **changes})


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_cross_entropy_is_the_textbook_s() -> None:
    expected = -log_softmax(LOGITS.double().numpy())[np.arange(4), LABELS].mean()
    assert float(make_loss(config("cross_entropy"), COUNTS)(LOGITS, LABELS)) == pytest.approx(
        expected, rel=1e-6
    )


def test_logit_adjusted_loss_adds_the_log_prior() -> None:
    adjusted = LOGITS.double().numpy() + 0.7 * np.log([0.6, 0.3, 0.1])
    expected = -log_softmax(adjusted)[np.arange(4), LABELS].mean()
    loss = make_loss(config("logit_adjusted", tau=0.7), COUNTS)
    assert float(loss(LOGITS, LABELS)) == pytest.approx(expected, rel=1e-6)


def test_class_balanced_loss_weighs_by_effective_number() -> None:
    raw = np.array([(1 - 0.99) / (1 - 0.99**n) for n in COUNTS])
    weights = raw * 3 / raw.sum()
    np.testing.assert_allclose(class_weights(COUNTS, 0.99), weights)
    nll = -log_softmax(LOGITS.double().numpy())[np.arange(4), LABELS]
    expected = (weights[LABELS] * nll).sum() / weights[LABELS].sum()
    got = float(make_loss(config("class_balanced"), COUNTS)(LOGITS, LABELS))
    assert got == pytest.approx(expected, rel=1e-6)


def test_class_weights_run_from_equal_to_inverse_counts() -> None:
    np.testing.assert_allclose(class_weights(COUNTS, 0.0), 1.0)
    inverse = 1 / COUNTS
    np.testing.assert_allclose(
        class_weights(COUNTS, 1 - 1e-9), 3 * inverse / inverse.sum(), rtol=1e-5
    )


def test_focal_loss_is_the_formula_and_cross_entropy_at_gamma_zero() -> None:
    p = np.exp(log_softmax(LOGITS.double().numpy()))[np.arange(4), LABELS]
    got = float(make_loss(config("focal", gamma=1.5), COUNTS)(LOGITS, LABELS))
    assert got == pytest.approx((-((1 - p) ** 1.5) * np.log(p)).mean(), rel=1e-5)
    torch.testing.assert_close(
        make_loss(config("focal", gamma=0.0), COUNTS)(LOGITS, LABELS),
        make_loss(config("cross_entropy"), COUNTS)(LOGITS, LABELS),
    )


def test_focal_loss_of_a_certain_prediction_has_a_finite_gradient() -> None:
    logits = torch.tensor([[60.0, 0.0, 0.0]], requires_grad=True)
    make_loss(config("focal"), COUNTS)(logits, torch.tensor([0])).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def fit(loss: Any, joint: np.ndarray, sampled: np.ndarray) -> np.ndarray:
    """Minimise `loss` over one logit row for each of a few feature values; joint is p(x, y)."""
    logits = torch.zeros(joint.shape, dtype=torch.float64, requires_grad=True)
    rows, columns = np.indices(joint.shape).reshape(2, -1)
    repeats = np.rint(sampled / sampled.sum() * 20_000).astype(int).ravel()
    x, y = torch.tensor(rows.repeat(repeats)), torch.tensor(columns.repeat(repeats))
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(logits[x], y)
        value.backward()
        return value

    optimizer.step(closure)
    return logits.detach().numpy()


@pytest.mark.parametrize(
    ("cfg", "sampling"),
    [
        (config("cross_entropy"), "natural"),
        (config("logit_adjusted"), "natural"),
        (config("logit_adjusted", tau=0.5), "natural"),
        (config("class_balanced", beta=0.999), "natural"),
        (config("cross_entropy"), "class_balanced"),
        (config("logit_adjusted", tau=0.3), "class_balanced"),
    ],
)
def test_shift_recovers_the_natural_probabilities(cfg: LossConfig, sampling: Sampling) -> None:
    """At the minimum of each loss, softmax(logits + shift) is p(y|x) of the natural data."""
    prior = COUNTS / COUNTS.sum()
    given_class = np.array([[0.6, 0.1, 0.2], [0.3, 0.2, 0.1], [0.1, 0.7, 0.7]])  # p(x|y)
    joint = given_class * prior
    sampled = given_class / 3 if sampling == "class_balanced" else joint
    logits = fit(make_loss(cfg, COUNTS), joint, sampled)
    natural = np.exp(log_softmax(logits + logit_shift(cfg, COUNTS, sampling)))
    np.testing.assert_allclose(natural, joint / joint.sum(axis=1, keepdims=True), atol=3e-3)


def test_logit_adjustment_decides_for_the_balanced_error() -> None:
    prior = COUNTS / COUNTS.sum()
    given_class = np.array([[0.6, 0.1, 0.2], [0.3, 0.2, 0.1], [0.1, 0.7, 0.7]])
    joint = given_class * prior
    logits = fit(make_loss(config("logit_adjusted"), COUNTS), joint, joint)
    assert logits.argmax(axis=1).tolist() == given_class.argmax(axis=1).tolist()


def test_focal_with_smoothing_is_refused() -> None:
    with pytest.raises(ValidationError, match=naming("label_smoothing", "focal")):
        config("focal", label_smoothing=0.1)


def test_class_without_training_images_is_named(small_prepared: Prepared) -> None:
    labels = np.where(small_prepared.labels == 2, 0, small_prepared.labels)
    with pytest.raises(UserError, match=naming(small_prepared.root, "rare")):
        train_counts(dataclasses.replace(small_prepared, labels=labels))
