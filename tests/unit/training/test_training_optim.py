"""The moving average of the weights, and the schedule of the learning rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgeward.training.optim import Average, cosine


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
