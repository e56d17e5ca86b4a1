"""What training says while it runs."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
from refusals import naming

from edgeward.training import history
from edgeward.training.history import Pace, best_epoch, finished, write_history


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


def test_training_ends_after_patience_or_all_epochs(tmp_path: Path) -> None:
    def rows(*scores: float) -> list[dict[str, float]]:
        return [{"epoch": i + 1, "score": s} for i, s in enumerate(scores)]

    assert best_epoch(rows(0.1, 0.5, 0.5, 0.2), "score") == 1
    assert best_epoch(rows(math.nan, 0.2), "score") == 1
    assert not finished([], "score", 5, 2)
    assert not finished(rows(0.5, 0.4), "score", 5, 2)
    assert finished(rows(0.5, 0.4, 0.5), "score", 5, 2)
    assert finished(rows(0.1, 0.2, 0.3), "score", 3, 2)
    with pytest.raises(ValueError, match=naming("'extra'")):
        write_history(tmp_path / "history.csv", [{"epoch": 1.0}, {"epoch": 2.0, "extra": 1.0}])
    assert list(tmp_path.iterdir()) == []
