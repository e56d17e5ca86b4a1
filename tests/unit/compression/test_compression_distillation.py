"""Distillation: its terms against closed forms, and who learns from whom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import naming
from scipy.special import softmax
from torch import nn

from edgeward.compression.distillation import Distillation, check_teacher, similarity, soft_targets
from edgeward.core.errors import UserError
from edgeward.records.recipe import ModelMeta

META = ModelMeta(
    model={"family": "cnn"},
    task="multiclass",
    num_classes=2,
    n_labels=2,
    in_chans=3,
    image_size=[8, 8],
    mean=[0.5] * 3,
    std=[0.5] * 3,
    classes=["a", "b"],
    logit_shift=[0.0, -1.0],
    data="small",
    seed=0,
)


def logits(seed: int, n: int = 6) -> torch.Tensor:
    return 3 * torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))


@given(st.floats(0.5, 20))
def test_soft_targets_are_the_divergence_times_the_temperature_squared(t: float) -> None:
    student, teacher = logits(0), logits(1)
    p, q = (softmax(x.double().numpy() / t, axis=1) for x in (teacher, student))
    expected = t**2 * (p * np.log(p / q)).sum(1).mean()
    assert soft_targets(student, teacher, t).item() == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_hot_soft_targets_match_logits() -> None:
    # Hinton et al., section 2.1: at high temperature, half the squared distance of centred logits / n.
    student, teacher = logits(0).double(), logits(1).double()
    gap = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    expected = 0.5 * gap.square().mean(1).mean()
    assert soft_targets(student, teacher, 1e4).item() == pytest.approx(expected.item(), rel=1e-3)


def test_gradients_keep_their_size_when_the_temperature_changes() -> None:
    sizes = []
    for temperature in (20.0, 40.0, 80.0):
        student = logits(0).double().requires_grad_()
        soft_targets(student, logits(1).double(), temperature).backward()
        assert student.grad is not None
        sizes.append(student.grad.norm().item())
    assert max(sizes) < 1.1 * min(sizes)


def test_agreement_costs_nothing() -> None:
    assert soft_targets(logits(0), logits(0) + 5, 4.0).item() == pytest.approx(0, abs=1e-6)


def test_similarity_sees_angles_between_images_only() -> None:
    features = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    turn = torch.linalg.qr(torch.randn(7, 7, generator=torch.Generator().manual_seed(1)))[0]
    assert similarity(features, features @ turn).item() == pytest.approx(0, abs=1e-9)
    assert similarity(torch.cat([features, features], 1), features).item() == pytest.approx(0)
    # Two images: alike to the student (Gram rows (1, 1)/sqrt 2), orthogonal to the teacher.
    alike, apart = torch.ones(2, 1), torch.eye(2)
    expected = (2 * (1 - 0.5**0.5) ** 2 + 2 * 0.5) / 4
    assert similarity(alike, apart).item() == pytest.approx(expected, rel=1e-6)


def lesson(
    weight: float, similarity_weight: float = 0.0
) -> tuple[Distillation, nn.Module, nn.Module]:
    torch.manual_seed(0)
    student = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.Linear(3, 4))
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 4))
    made = Distillation(
        student,
        teacher,
        task=nn.functional.cross_entropy,
        temperature=2.0,
        weight=weight,
        similarity_weight=similarity_weight,
    )
    return made, student, teacher


def test_the_loss_is_the_weighted_sum() -> None:
    images, labels = torch.randn(6, 3, 2, 2), torch.tensor([0, 1, 2, 3, 0, 1])
    for weight, more in ((0.3, 0.0), (1.0, 0.0), (0.3, 50.0)):
        made, student, teacher = lesson(weight, more)
        out = made.train()(images)
        expected = (1 - weight) * nn.functional.cross_entropy(out, labels)
        expected = expected + weight * soft_targets(out, teacher(images), 2.0)
        expected = expected + more * similarity(student[:2](images), teacher[:3](images))
        torch.testing.assert_close(made.loss(out, labels), expected)


def test_the_teacher_neither_learns_nor_travels_along() -> None:
    made, student, teacher = lesson(1.0, 10.0)
    before = [p.clone() for p in teacher.parameters()]
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    gaps = []
    for step in range(100):
        images = torch.randn(32, 3, 2, 2, generator=torch.Generator().manual_seed(step))
        out = made.train()(images)
        loss = made.loss(out, torch.zeros(32, dtype=torch.int64))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        gaps.append(loss.item())
    assert np.mean(gaps[-10:]) < 0.5 * np.mean(gaps[:10])
    assert not teacher.training
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))
    assert made.state_dict().keys() == {f"student.{key}" for key in student.state_dict()}
    made.close()
    assert not any(m._forward_pre_hooks for m in (*student.modules(), *teacher.modules()))


def test_the_loss_wants_the_logits_of_the_last_pass() -> None:
    made, _, _ = lesson(0.5)
    first = made.train()(torch.randn(2, 3, 2, 2))
    made(torch.randn(2, 3, 2, 2))
    with pytest.raises(AssertionError, match="last forward pass"):
        made.loss(first, torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"classes": ["b", "a"]}, ("'big'", "['b', 'a']", "['a', 'b']")),
        ({"seed": 1}, ("'big'", "seed 1", 0)),
        ({"logit_shift": [0.0, 0.0]}, ("'big'", "logit_shift", "train.loss")),
    ],
)
def test_a_teacher_that_means_something_else_is_refused(
    change: dict[str, Any], parts: tuple[object, ...]
) -> None:
    shifted = META.model_copy(update={"logit_shift": [1.0, 0.0]})
    check_teacher("big", shifted, META)  # the same but for a constant
    with pytest.raises(UserError, match=naming(*parts)):
        check_teacher("big", META.model_copy(update=change), META)
