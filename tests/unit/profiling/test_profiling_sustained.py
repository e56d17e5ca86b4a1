"""Minutes without a pause: the agent for seconds, and the judgement on curves that are made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from profiling_models import host_quick
from pydantic import ValidationError
from sustained_runs import run

from edgeward.profiling import stage
from edgeward.profiling.agent import sustain
from edgeward.profiling.validate import problems


@pytest.mark.parametrize(
    ("at_the_end", "expected"), [(1.0, "holds"), (1.03, "holds"), (1.0555, "inconclusive"), (1.5, "slows")]
)  # fmt: skip
def test_the_answer_follows_the_interval_of_last_against_first(
    at_the_end: float, expected: str
) -> None:
    record = run(at_the_end)
    assert record.answer == expected
    # The stretches are 12 windows long, so their middles lie 108 / 119 of the way apart.
    mean = 1 + (at_the_end - 1) * 113.5 / 119, 1 + (at_the_end - 1) * 5.5 / 119
    assert record.ratio.estimate == pytest.approx(mean[0] / mean[1], rel=0.01)
    assert record.edge_s == 60
    assert (record.held == 1) is (at_the_end < 1.04)
    assert record.energy_ratio is not None
    assert record.energy_ratio.estimate == 1
    assert record.windows[0].energy_mj == 2


def test_heat_is_a_finding_and_the_work_of_others_a_disturbance() -> None:
    assert run(1.5).verdict == "VALID"
    busy = run(1.0, other_s=0.5)
    assert busy.verdict == "INVALID"
    assert [r.split(" stretch")[0] for r in busy.reasons] == ["in the first", "in the last"]


def test_a_run_on_this_machine_is_part_of_an_ordinary_profile(
    fp32_model: Path, tmp_path: Path
) -> None:
    cfg = host_quick(sustained={"duration_s": 1.2, "edge_s": 0.4, "window_s": 0.1})
    metrics = stage.run(cfg, model=fp32_model, out=tmp_path / "p.json")
    written = json.loads((tmp_path / "p.json").read_text())
    assert problems(written) == []
    found = written["sustained"]
    assert metrics["sustained_ratio"] == found["ratio"]["estimate"] > 0
    assert found["duration_s"] >= 1.2
    assert found["no_energy"] == "power.counter is none"
    assert found["parity"]["passed"]
    starts = [w["start_s"] for w in found["windows"]]
    assert starts == sorted(starts)
    for window in found["windows"]:
        assert window["duration_s"] >= 0.1
        assert window["p50_ms"]["n"] <= sustain.KEPT < window["n"] + sustain.KEPT
    found["answer"] = "slows" if found["answer"] == "holds" else "holds"
    (problem,) = problems(written)
    assert problem.startswith("sustained: ")
    assert problem.endswith("answer does not follow from ratio and max_slowdown")


@pytest.mark.parametrize(
    ("keys", "named"),
    [({"duration_s": 100}, "duration_s"), ({"window_s": 20}, "edge_s"), ({"duration_s": 9000}, "3000")],
)  # fmt: skip
def test_stretches_that_cannot_be_compared_are_refused(keys: dict[str, float], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        host_quick(sustained=keys)
