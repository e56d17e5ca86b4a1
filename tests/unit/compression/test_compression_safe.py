"""The safe recipes end to end on a trained network: what they record, export and leave alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from compression_trained import TRAIN, Trained, train
from shipped import shipped

from edgeward.compression import backend
from edgeward.compression.config import RecipeConfig
from edgeward.compression.constraint.placement import cost, macs, place, units
from edgeward.compression.constraint.simulated import Simulated
from edgeward.compression.fusion import fuse
from edgeward.compression.steps.safe_mixed_int8 import SafeMixedInt8
from edgeward.compression.workpiece import Workpiece
from edgeward.data.store import to_input
from edgeward.export.config import export_config
from edgeward.export.stage import run as export
from edgeward.models.checkpoint import load_checkpoint, save_checkpoint
from edgeward.models.deploy import reparameterize
from edgeward.models.program import load_program
from edgeward.runtimes.onnxruntime.quantizer import OnnxRuntimeQuantizer

MARGINS = {"recall": 0.05, "ece": 0.02}


def recipe(name: str, change: Callable[[dict[str, Any]], None] = lambda step: None) -> RecipeConfig:
    """Return a recipe of the config tree, its second step made small and then changed."""
    content = shipped("compress", name)
    step = content["steps"][1]
    if "finetune" in step:
        step["finetune"] |= TRAIN | {"epochs": 2, "lr": 1e-3}
    limits = step.get("constraint") or step.get("finetune", {}).get("constraint")
    if limits:
        limits["acceptance"] |= {"margins": MARGINS, "resamples": 200}
    if "finetune" in step and limits:
        limits |= {"batch_size": 24, "every": 2}
    change(step)
    return RecipeConfig.model_validate(content)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A network whose INT8 form loses much, since one channel is an outlier; and its data."""
    made = train(tmp_path_factory.mktemp("safe"))
    model, meta = load_checkpoint(made.student)
    first, second = model.net[0], model.net[1]
    with torch.no_grad():
        first[1].weight[3] *= 3000
        first[1].bias[3] *= 3000
        second[0].weight[3] /= 3000
    save_checkpoint(made.student, model, meta)
    return made


def validation(world: Trained) -> torch.Tensor:
    return torch.from_numpy(to_input(world.data.images[world.data.indices("val")]))


def logits(world: Trained, tag: str) -> np.ndarray:
    with torch.no_grad():
        return load_program(world.root / tag / "model.pt2").module()(validation(world)).numpy()


def exported(world: Trained, tag: str) -> float:
    """Run the stage `export` with its shipped tolerances, where it raises; return the agreement."""
    content = shipped("export", "onnx")
    at = world.root / tag
    return export(
        export_config(content),
        program=at / "model.pt2",
        recipe=at / "recipe.json",
        prepared=world.data.root,
        out=at,
        threads=1,
    )["agreement"]


class Stopped(Exception):
    pass


def test_safe_qat_steers_records_resumes_and_exports(world: Trained) -> None:
    def strict(step: dict[str, Any]) -> None:
        changes = {"margins": {"recall": 0.0, "ece": 0.0}, "multipliers_from": "train"}
        step["finetune"]["constraint"] |= changes

    chosen = recipe("safe_qat_int8", strict)
    metrics = world.compress(chosen, "safe_qat")
    record = world.record("safe_qat")
    row = record["found"]["history"][-1]
    names = {"violation_recall_rare", "multiplier_recall_rare", "violation_ece", "multiplier_ece"}
    assert names <= row.keys()
    assert names <= metrics.keys()
    assert max(row["multiplier_recall_rare"], row["multiplier_ece"]) > 0
    acceptance = record["found"]["acceptance"]
    assert [e["metric"] for e in acceptance["endpoints"]] == ["recall_rare", "ece"]
    assert acceptance["n"] == len(world.data.indices("val"))
    assert metrics["accepted"] == acceptance["accepted"]
    assert exported(world, "safe_qat") > 0.98

    def stop(epoch: int, _: dict[str, float]) -> None:
        if epoch == 1:
            raise Stopped

    with pytest.raises(Stopped):
        world.compress(chosen, "again", live=stop)
    world.compress(chosen, "again")
    np.testing.assert_array_equal(logits(world, "again"), logits(world, "safe_qat"))
    assert world.record("again")["found"]["history"][-1]["multiplier_ece"] == row["multiplier_ece"]


def test_a_constraint_that_holds_changes_nothing(world: Trained) -> None:
    def loose(step: dict[str, Any]) -> None:
        limits = step["finetune"]["constraint"]
        # A network that finds every image and one that finds none differ by all of the margin at most.
        limits |= {"margins": {"recall": 0.999, "ece": 0.99}, "recall_temperature": 1.0}

    def short(step: dict[str, Any]) -> None:
        step["finetune"]["epochs"] = 2

    world.compress(recipe("safe_qat_int8", loose), "loose")
    world.compress(recipe("qat_int8", short), "plain")
    rows = world.record("loose")["found"]["history"]
    assert all(row["multiplier_recall_rare"] == row["multiplier_ece"] == 0 for row in rows)
    assert all(max(row["violation_recall_rare"], row["violation_ece"]) < 0 for row in rows)
    np.testing.assert_array_equal(logits(world, "loose"), logits(world, "plain"))
    assert "acceptance" not in world.record("plain")


@pytest.fixture(scope="module")
def mixed(world: Trained) -> dict[str, Any]:
    def strict(step: dict[str, Any]) -> None:
        step["constraint"]["margins"] = {"recall": 0.005, "ece": 0.005}
        step["observer"] = "minmax"  # whose harm some layers alone do

    world.compress(recipe("safe_mixed_int8", strict), "mixed")
    return world.record("mixed")


def test_the_search_puts_back_what_harms(world: Trained, mixed: dict[str, Any]) -> None:
    (effect,) = (e for e in mixed["effects"] if e["step"] == "safe_mixed_int8")
    assert max(effect["violations_int8"]) > 0
    assert effect["holds"]
    assert max(effect["violations"]) <= 0
    assert 0 < len(effect["float"]) < 6
    assert set(effect["harm"]) == set(effect["order"])
    costs = effect["cost"]
    assert costs["int8"] < costs["chosen"]
    assert mixed["found"]["float_layers"]
    assert exported(world, "mixed") > 0.98


def test_a_search_without_need_is_ptq(world: Trained) -> None:
    def loose(step: dict[str, Any]) -> None:
        step["constraint"]["margins"] = {"recall": 0.99, "ece": 0.99}

    world.compress(recipe("safe_mixed_int8", loose), "idle")
    world.compress(recipe("ptq_int8"), "ptq")
    np.testing.assert_array_equal(logits(world, "idle"), logits(world, "ptq"))
    assert world.record("idle")["effects"][-1]["float"] == []


def test_a_temperature_is_in_the_file_and_changes_no_decision(world: Trained) -> None:
    world.compress(recipe("ptq_int8"), "ptq")
    metrics = world.compress(recipe("ptq_int8_calibrated"), "calibrated")
    before, after = logits(world, "ptq"), logits(world, "calibrated")
    np.testing.assert_allclose(after, before / metrics["temperature"], rtol=1e-5)
    assert (before.argmax(1) == after.argmax(1)).all()
    effect = world.record("calibrated")["effects"][-1]
    assert effect["nll"] < effect["nll_before"]
    assert effect["n"] == len(world.data.indices("val"))
    assert exported(world, "calibrated") > 0.98


def test_one_scale_per_tensor_is_the_same_in_ptq_and_qat(world: Trained) -> None:
    world.compress(recipe("ptq_int8_per_tensor"), "tensor")
    program = load_program(world.root / "tensor" / "model.pt2")
    counts = [
        len(torch.unique(state))
        for name, state in {**program.state_dict, **program.constants}.items()
        if "scale" in name
        and "bias" not in name
        and isinstance(state, torch.Tensor)
        and state.dim() == 1
    ]
    assert len(counts) == 6
    assert set(counts) == {1}
    assert world.record("tensor")["scheme"]["weight"].startswith("int8, per tensor")

    def still(step: dict[str, Any]) -> None:
        step["finetune"] |= {"lr": 1e-12, "epochs": 1}
        step["range_epochs"] = 0

    world.compress(recipe("qat_int8_per_tensor", still), "still")
    ptq, qat = logits(world, "tensor"), logits(world, "still")
    assert abs(ptq - qat).mean() < 5e-3 * ptq.std()


def candidate(world: Trained) -> Workpiece:
    module, meta = load_checkpoint(world.student)
    made = Workpiece(module, meta, world.data.root, 0, 1, world.root / "none", None)
    made.module, _ = fuse(reparameterize(made.module), made.example)
    return made


def test_switched_off_quantizers_are_a_converted_float_layer(world: Trained) -> None:
    """The simulation with a layer in float against the graph converted with it in keep_float."""
    made = candidate(world)
    chosen = recipe("safe_mixed_int8").steps[1]
    assert isinstance(chosen, SafeMixedInt8)
    graph = backend.capture(made.module, made.example)
    simulated = Simulated(made, chosen, chosen.calibrate(made), graph)
    images = validation(world)
    with torch.no_grad():
        only = simulated.alone("net.1.0")(images)
    others = [name for name in units(graph, []) if name != "net.1.0"]
    with torch.no_grad():
        alone = simulated.with_float(others)(images)
    assert torch.equal(only, alone)
    for names in ((), ("net.1.0",), ("net.0", "net.1.0")):
        kept = chosen.model_copy(update={"keep_float": list(names)})
        converted = backend.convert(kept.calibrate(made))
        with torch.no_grad():
            exact, found = converted(images), simulated.with_float(names)(images)
        assert float((exact - found).abs().mean()) < 0.02 * float(exact.std()), names


def test_units_and_cost_of_a_chain(world: Trained) -> None:
    made = candidate(world)
    graph = backend.capture(made.module, made.example)
    layers = units(graph, [])
    assert len(layers) == 6
    assert all(
        isinstance(made.module.get_submodule(n), torch.nn.Conv2d | torch.nn.Linear) for n in layers
    )
    free = {"int8_speedup": 2.0, "conversion": 0.0}
    total = (
        sum(
            macs(graph, node)
            for node in graph.graph.nodes
            if node.target in OnnxRuntimeQuantizer.weighted
        )
        / 1e6
    )
    first = made.module.get_submodule(layers[0])
    assert cost(graph, place(graph, []), **free) == pytest.approx(total / 2)
    assert cost(graph, place(graph, layers), **free) == pytest.approx(total)
    assert cost(graph, place(graph, ["net"]), **free) == pytest.approx(total)
    side = 32 // first.stride[0]
    own = side**2 * first.weight.numel() / 1e6
    assert cost(graph, place(graph, [layers[0]]), **free) == pytest.approx((total + own) / 2)
    # The first layer in float: its input is no longer converted, its output is.
    dear = {"int8_speedup": 2.0, "conversion": 1.0}
    change = cost(graph, place(graph, [layers[0]]), **dear) - cost(graph, place(graph, []), **dear)
    assert change == pytest.approx(own / 2 + (16 * side**2 - 3 * 32**2) / 1e6, rel=1e-6)
