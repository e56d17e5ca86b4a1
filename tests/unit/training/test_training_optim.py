"""The moving average of the weights, and the schedule of the learning rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgeward.training.config import TrainConfig
from edgeward.training.optim import Average, Backbone, adamw, cosine


def test_average_follows_weights_and_running_statistics() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    average = Average(net, decay=0.9)
    expected = net[1].running_mean.clone()
    for t in range(1, 31):
        with torch.no_grad():
            net[1].running_mean.fill_(float(t))
            net[1].num_batches_tracked.fill_(t)
            net[0].weight.fill_(float(-t))
        average.update(net)
        decay = min(0.9, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * t
    torch.testing.assert_close(average.net[1].running_mean, expected)
    torch.testing.assert_close(average.net[0].weight.mean(), -expected.mean(), atol=0.2, rtol=0)
    assert int(average.net[1].num_batches_tracked) == 30
    assert not average.train().net.training
    assert not any(p.requires_grad for p in average.net.parameters())


def test_schedule_warms_up_then_falls_to_zero() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = cosine(optimizer, total_steps=100, warmup_fraction=0.1)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:10] == pytest.approx([2.0 * (i + 1) / 11 for i in range(10)])
    assert rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)
    assert np.all(np.diff(rates[10:]) < 0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0)


def test_the_backbone_learns_more_slowly_and_stands_still_at_first() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    cfg = TrainConfig(lr=0.1, weight_decay=0.0)
    backbone = Backbone(frozenset({"1.weight", "1.bias"}), lr=0.1, frozen_steps=3)
    optimizer = adamw(net, cfg, backbone)
    rates = {g["part"]: g["lr"] for g in optimizer.param_groups}
    assert rates == {"": pytest.approx(0.1), "backbone": pytest.approx(0.01)}
    schedule = cosine(optimizer, total_steps=20, warmup_fraction=0.0, frozen_steps=3)
    before = [p.detach().clone() for p in net.parameters()]
    for step in range(5):
        net(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        schedule.step()
        moved = [not torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True)]
        assert moved == [step >= 3, step >= 3, True, True], step
    lr = {g["part"]: g["lr"] for g in optimizer.param_groups}
    assert lr["backbone"] == pytest.approx(0.1 * lr[""])
    alike = adamw(net, cfg)
    assert {g["part"] for g in alike.param_groups} == {""}
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 4
