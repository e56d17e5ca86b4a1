"""Strided 1 x 1 convolutions that pick their pixels first."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from edgeward.models.strided import StridedPointwise, replace_strided_pointwise


@pytest.mark.parametrize(("stride", "size"), [((2, 2), 9), ((2, 3), 12)])
def test_values_gradients_and_names_stay(stride: tuple[int, int], size: int) -> None:
    torch.manual_seed(0)
    before = nn.Sequential(nn.Conv2d(3, 8, 1, stride=stride)).double().train()
    after = copy.deepcopy(before)
    replace_strided_pointwise(after)
    assert isinstance(after[0], StridedPointwise)
    assert after.state_dict().keys() == before.state_dict().keys()
    images = torch.rand(2, 3, size, size, dtype=torch.float64)
    outputs = []
    for net in (before, after):
        y = net(images)
        (y**2).sum().backward()
        outputs.append((y, net[0].weight.grad, net[0].bias.grad))
    for mine, theirs in zip(*outputs, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(after.eval()(images), before.eval()(images), rtol=0, atol=0)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(16, 8, 1, stride=2),
        nn.Conv2d(3, 8, 1),
        nn.Conv2d(3, 8, 3, stride=2),
        nn.Conv2d(3, 3, 1, stride=2, groups=3),
        nn.Conv2d(3, 8, 1, stride=2, padding=1),
    ],
)
def test_others_are_left_alone(layer: nn.Conv2d) -> None:
    net = nn.Sequential(layer)
    replace_strided_pointwise(net)
    assert type(net[0]) is nn.Conv2d
