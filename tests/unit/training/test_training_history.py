"""What training says while it runs."""

from __future__ import annotations

import logging

import pytest

from edgeward.training import history
from edgeward.training.history import Pace


def test_a_long_epoch_says_once_a_minute_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1000.0]
    monkeypatch.setattr(history.time, "perf_counter", lambda: now[0])
    caplog.set_level(logging.INFO)
    pace, losses = Pace(2, 5, 10), []
    for step in range(10):
        now[0] += 40
        losses.append(float(step))
        pace.step(losses)
    assert caplog.messages == [
        "epoch 2/5, 20 %: loss 0.500, 5 min left in this epoch",
        "epoch 2/5, 40 %: loss 1.500, 4 min left in this epoch",
        "epoch 2/5, 60 %: loss 2.500, 3 min left in this epoch",
        "epoch 2/5, 80 %: loss 3.500, 80 s left in this epoch",
    ]


def test_a_short_epoch_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    pace = Pace(1, 1, 3)
    for losses in ([1.0], [1.0, 1.0], [1.0, 1.0, 1.0]):
        pace.step(losses)
    assert not caplog.messages
