"""Models timed in turns: the device's part, and what becomes of its samples."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from profiling_models import host_quick as quick
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.pipeline.plan import Candidate, Plan
from edgeward.profiling import interleave
from edgeward.profiling.statistics import paired_ratio
from edgeward.records.interleave import TimedMember

ROOT = Path(__file__).parents[3]


def member(file: Path | str, recipe: str) -> dict[str, Any]:
    return {"data": "d", "model": "m", "seed": 0, "recipe": recipe, "file": str(file)}


Comparison = tuple[dict[str, Any], dict[str, float]]
"""What the file holds, and the metrics."""


@pytest.fixture(scope="module")
def comparison(
    fp32_model: Path, int8_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Comparison:
    out = tmp_path_factory.mktemp("interleaved") / "host_quick.json"
    group = [member(fp32_model, "a"), member(fp32_model, "b"), member(int8_model, "c")]
    metrics = interleave.run(quick(), [group, group[::2]], out=out)
    return json.loads(out.read_text()), metrics


def test_comparison_holds_what_the_contract_says(comparison: Comparison) -> None:
    content, metrics = comparison
    assert content["schema"] == "edgeward-interleave/1"
    assert content["device"] == "host_quick"
    assert content["engine"]["providers"] == ["CPUExecutionProvider"]
    assert [[c["recipe"] for c in g["candidates"]] for g in content["groups"]] == [
        ["a", "b", "c"],
        ["a", "c"],
    ]
    for group in content["groups"]:
        assert (group["threads"], group["batch"], group["rounds"]) == (1, 1, 6)
        first = group["candidates"][0]
        assert first["ratio"]["estimate"] == first["ratio"]["low"] == first["ratio"]["high"] == 1
        for c in group["candidates"]:
            assert {"data", "model", "seed", "recipe"} <= c.keys()
            for record in (c["ratio"], c["latency_ms"]):
                assert 0 < record["low"] <= record["estimate"] <= record["high"]
                assert record["n"] == 6
            assert c["verdict"] == ("INVALID" if c["reasons"] else "VALID")
    assert metrics["groups"] == 2
    assert metrics["ratios"] == 3


@pytest.mark.parametrize(("first", "timed"), [(False, ["a", "b"]), (True, [])])
def test_a_model_that_the_engine_refuses_is_left_out(
    first: bool, timed: list[str], fp32_model: Path, foreign_model: Path, tmp_path: Path
) -> None:
    group = [member(fp32_model, "a"), member(fp32_model, "b")]
    group.insert(0 if first else 1, member(foreign_model, "other"))
    out = tmp_path / "host_quick.json"
    metrics = interleave.run(quick(), [group], out=out)
    (record,) = json.loads(out.read_text())["groups"]
    assert [c["recipe"] for c in record["candidates"]] == timed
    ((refused, reason),) = [(r["recipe"], r["reason"]) for r in record["refused"]]
    assert refused == "other"
    assert "NoSuchOperator" in reason
    assert "\n" not in reason
    assert metrics["refused"] == 1
    assert metrics["ratios"] == max(0, len(timed) - 1)


def answer(latency: np.ndarray) -> dict[str, Any]:
    """The agent's answer for latencies of shape (rounds, models), in ms, blocks of one."""
    return {
        "threads": 1,
        "duration_ns": 1e9,
        "refused": [],
        "samples_ns": (latency[:, :, None] * 1e6).tolist(),
        "conditions": {},
    }


def compared(latency: np.ndarray) -> TimedMember:
    cfg = quick(interleave={"rounds": 41, "settle": 1, "block": 1})
    group = [member(str(i), str(i)) for i in range(latency.shape[1])]
    return interleave.compare(group, answer(latency), cfg, emulated=False).candidates[-1]


def luck(rng: np.random.Generator, rounds: int) -> np.ndarray:
    """A machine that others disturb for rounds on end: slow by up to a factor of three."""
    level = np.repeat(rng.choice([1.0, 1.0, 1.7, 3.0], rounds // 4 + 1), 4)[:rounds]
    return level[:, None] * rng.lognormal(0, 0.02, (rounds, 2)) * np.array([2.0, 1.5])


def test_ratio_survives_a_machine_that_medians_do_not() -> None:
    rng = np.random.default_rng(2)
    covered, widths, unpaired = 0, [], []
    for _ in range(400):
        latency = luck(rng, 41)
        _, low, high = paired_ratio(latency[:, 1], latency[:, 0], 0.95)
        covered += low <= 0.75 <= high
        widths.append(high - low)
        # The same without pairing: the two measured one after the other.
        one, other = np.median(luck(rng, 41)[:, 1]), np.median(luck(rng, 41)[:, 0])
        unpaired.append(abs(one / other - 0.75))
    assert 0.93 < covered / 400 <= 0.99
    assert np.median(widths) < 0.03
    assert np.quantile(unpaired, 0.5) > 0.1


def test_ratio_of_steady_models_is_valid_and_exact() -> None:
    latency = np.tile([4.0, 2.0], (41, 1)) * np.random.default_rng(0).uniform(1, 9, (41, 1))
    found = compared(latency)
    assert found.ratio.estimate == pytest.approx(0.5)
    assert found.verdict == "VALID"


@pytest.mark.parametrize(
    ("latency", "reason"),
    [
        (np.tile([4.0, 2.0], (20, 1)), "20 of 41 rounds were done in time"),
        (np.column_stack([np.ones(41), np.tile([1.0, 2.0], 21)[:41]]), "interval of the ratio is"),
        (np.column_stack([np.ones(41), np.linspace(1, 1.2, 41)]), "the ratio moved by +1"),
        (np.ones((3, 2)), "too few rounds for an interval"),
    ],
)
def test_ratio_that_is_not_settled_is_invalid(latency: np.ndarray, reason: str) -> None:
    found = compared(latency)
    assert found.verdict == "INVALID"
    assert any(reason in text for text in found.reasons), found.reasons


def test_models_on_different_scales_are_not_compared(fp32_model: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(fp32_model)
    entry = model.metadata_props.add()
    entry.key, entry.value = "input_range", "[0, 1]"
    onnx.save(model, tmp_path / "other.onnx")
    group = [member(fp32_model, "a"), member(tmp_path / "other.onnx", "b")]
    with pytest.raises(UserError, match=naming("other.onnx", "input_range")):
        interleave.run(quick(), [group], out=tmp_path / "x.json")


def test_groups_of_a_sweep() -> None:
    plan = Plan.load((ROOT / "config",), "default")
    models, recipes = plan.sweep.model, plan.sweep.recipe
    *by_recipe, by_model = plan.interleaved
    assert [[c.recipe for c in group] for group in by_recipe] == [recipes] * len(models)
    assert [group[0].model for group in by_recipe] == models
    assert plan.sweep.interleave.model is not None
    assert by_model[0] == Candidate("phantom", plan.sweep.interleave.model, 0, "fp32")
    assert {c.model for c in by_model} == set(models)
    assert {c.recipe for c in by_model} == {"fp32"}
    cfg = plan.interleave("host")
    assert cfg["profile"]["name"] == "host"
    assert cfg["groups"][0][0] == {
        "data": "phantom",
        "model": models[0],
        "seed": 0,
        "recipe": "fp32",
    }


def test_recipes_of_every_seed_are_timed_and_models_of_one() -> None:
    plan = Plan.load((ROOT / "config",), "safety")
    assert [(group[0].seed, group[0].model) for group in plan.interleaved] == list(
        itertools.product(plan.sweep.seed, plan.sweep.model)
    )
    assert all(len({(c.model, c.seed) for c in group}) == 1 for group in plan.interleaved)
    assert len(plan.sweep.seed) > 1
    plan = Plan.load((ROOT / "config",), "streams")
    assert {c.seed for group in plan.interleaved for c in group} == {plan.sweep.seed[0]}
    assert len(plan.sweep.seed) > 1
