"""The safe recipes end to end on a trained network: what they record, export and leave alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from compression_nets import onnx_of, run, session
from small_data import write_small_prepared

from edgeward.compression import backend
from edgeward.compression.candidate import Candidate
from edgeward.compression.config import RecipeConfig
from edgeward.compression.constraint.placement import cost, macs, place, units
from edgeward.compression.constraint.search import Simulated
from edgeward.compression.program import load_program
from edgeward.compression.quantizer import WEIGHTED
from edgeward.compression.stage import run as compress
from edgeward.compression.steps.safe_mixed_int8 import CostConfig, SafeMixedInt8
from edgeward.core.io import read_json
from edgeward.data.store import Prepared, open_prepared, to_input
from edgeward.export.config import ExportConfig
from edgeward.export.stage import run as export
from edgeward.models.checkpoint import load_checkpoint, save_checkpoint
from edgeward.models.config import ModelConfig
from edgeward.models.deploy import Deployable
from edgeward.models.factory import build

CONFIG = Path(__file__).resolve().parents[3] / "config"
MARGINS = {"recall": 0.05, "ece": 0.02}
TRAIN = {
    "loss": {"name": "cross_entropy", "tau": 1.0, "beta": 0.99, "gamma": 2.0, "label_smoothing": 0.0},
    "augment": {"flips": True, "rotate90": False, "degrees": 0.0, "scale": 0.0, "translate": 0.0,
                "brightness": 0.0, "contrast": 0.0, "colour": 0.0},
    "epochs": 2, "batch_size": 32, "lr": 1e-3,
}  # fmt: skip


def recipe(name: str, change: Callable[[dict[str, Any]], None] = lambda step: None) -> RecipeConfig:
    """Return a recipe of the config tree, its second step made small and then changed."""
    content = yaml.safe_load((CONFIG / "compress" / f"{name}.yaml").read_text())
    step = content["steps"][1]
    step.get("finetune", {}).update(TRAIN)
    limits = step.get("constraint") or step.get("finetune", {}).get("constraint")
    if limits:
        limits["acceptance"] |= {"margins": MARGINS, "resamples": 200}
    if "finetune" in step and limits:
        limits |= {"batch_size": 24, "every": 2}
    change(step)
    return RecipeConfig.model_validate(content)


class World:
    """A network whose INT8 form loses much, since one channel is an outlier; and its data."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data: Prepared = open_prepared(write_small_prepared(root / "prepared", n=400))
        self.checkpoint = root / "model.pt"
        config = ModelConfig(
            name="dscnn", builder="edgeward", architecture="dscnn", stream="cnn", drop_rate=0.0,
            branch_gain=1.0, options={"width": 16, "blocks": 2},
        )  # fmt: skip
        torch.manual_seed(0)
        torch.set_num_threads(1)
        card = self.data.card
        model = Deployable(
            build(config, num_classes=3, in_chans=3, image_size=(32, 32)),
            card["channel_mean"],
            card["channel_std"],
        )
        train = self.data.indices("train")
        images = torch.from_numpy(to_input(self.data.images[train]))
        labels = torch.from_numpy(self.data.labels[train])
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for step in range(40):
            batch = torch.randperm(len(train), generator=torch.Generator().manual_seed(step))[:64]
            loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            first, second = model.net[0], model.net[1]
            first[1].weight[3] *= 3000
            first[1].bias[3] *= 3000
            second[0].weight[3] /= 3000
        meta = {
            "model": config.model_dump(), "num_classes": 3, "in_chans": 3, "image_size": [32, 32],
            "mean": card["channel_mean"], "std": card["channel_std"], "classes": card["classes"],
            "logit_shift": [0.0, 0.0, 0.0], "data": "small", "seed": 0,
        }  # fmt: skip
        save_checkpoint(self.checkpoint, model, meta)

    def compress(self, chosen: RecipeConfig, tag: str, **kwargs: Any) -> dict[str, float]:
        work = self.root / tag / "work"
        work.mkdir(parents=True, exist_ok=True)
        return compress(
            chosen, seed=0, checkpoint=self.checkpoint, prepared=self.data.root,
            out=self.root / tag, work=work, threads=1, **kwargs,
        )  # fmt: skip

    def record(self, tag: str) -> dict[str, Any]:
        return read_json(self.root / tag / "recipe.json")

    def logits(self, tag: str) -> np.ndarray:
        images = torch.from_numpy(to_input(self.data.images[self.data.indices("val")]))
        with torch.no_grad():
            return load_program(self.root / tag / "model.pt2").module()(images).numpy()

    def export(self, tag: str) -> dict[str, float]:
        """Run the stage `export` with its shipped tolerances; it raises where parity fails."""
        cfg = ExportConfig.model_validate(
            yaml.safe_load((CONFIG / "export" / "onnx.yaml").read_text())
        )
        at = self.root / tag
        return export(
            cfg, program=at / "model.pt2", recipe=at / "recipe.json", prepared=self.data.root,
            out=at, threads=1,
        )  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("safe"))


class Stopped(Exception):
    pass


def test_safe_qat_steers_records_resumes_and_exports(world: World) -> None:
    def strict(step: dict[str, Any]) -> None:
        step["finetune"]["constraint"]["margins"] = {"recall": 0.0, "ece": 0.0}

    chosen = recipe("safe_qat_int8", strict)
    metrics = world.compress(chosen, "safe_qat")
    record = world.record("safe_qat")
    row = record["history"][-1]
    names = {"violation_recall_rare", "multiplier_recall_rare", "violation_ece", "multiplier_ece"}
    assert names <= row.keys()
    assert names <= metrics.keys()
    assert max(row["multiplier_recall_rare"], row["multiplier_ece"]) > 0
    acceptance = record["acceptance"]
    assert [e["metric"] for e in acceptance["endpoints"]] == ["recall_rare", "ece"]
    assert acceptance["n"] == len(world.data.indices("val"))
    assert metrics["accepted"] == acceptance["accepted"]
    assert world.export("safe_qat")["agreement"] > 0.98

    def stop(epoch: int, _: dict[str, float]) -> None:
        if epoch == 1:
            raise Stopped

    with pytest.raises(Stopped):
        world.compress(chosen, "again", live=stop)
    world.compress(chosen, "again")
    np.testing.assert_array_equal(world.logits("again"), world.logits("safe_qat"))
    assert world.record("again")["history"][-1]["multiplier_ece"] == row["multiplier_ece"]


def test_a_constraint_that_holds_changes_nothing(world: World) -> None:
    def loose(step: dict[str, Any]) -> None:
        step["finetune"]["constraint"]["margins"] = {"recall": 0.99, "ece": 0.99}

    def short(step: dict[str, Any]) -> None:
        step["finetune"]["epochs"] = 2

    world.compress(recipe("safe_qat_int8", loose), "loose")
    world.compress(recipe("qat_int8", short), "plain")
    np.testing.assert_array_equal(world.logits("loose"), world.logits("plain"))
    assert "acceptance" not in world.record("plain")


@pytest.fixture(scope="module")
def mixed(world: World) -> dict[str, Any]:
    def strict(step: dict[str, Any]) -> None:
        step["constraint"]["margins"] = {"recall": 0.005, "ece": 0.005}

    world.compress(recipe("safe_mixed_int8", strict), "mixed")
    return world.record("mixed")


def test_the_search_puts_back_what_harms(world: World, mixed: dict[str, Any]) -> None:
    (effect,) = (e for e in mixed["effects"] if e["step"] == "safe_mixed_int8")
    assert max(effect["violations_int8"]) > 0
    assert effect["holds"]
    assert max(effect["violations"]) <= 0
    assert 0 < len(effect["float"]) < 6
    assert set(effect["harm"]) == set(effect["order"])
    costs = effect["cost"]
    assert costs["int8"] < costs["chosen"]
    assert mixed["float_layers"]
    assert world.export("mixed")["agreement"] > 0.98


def test_a_search_without_need_is_ptq(world: World) -> None:
    def loose(step: dict[str, Any]) -> None:
        step["constraint"]["margins"] = {"recall": 0.99, "ece": 0.99}

    world.compress(recipe("safe_mixed_int8", loose), "idle")
    world.compress(recipe("ptq_int8"), "ptq")
    np.testing.assert_array_equal(world.logits("idle"), world.logits("ptq"))
    assert world.record("idle")["effects"][-1]["float"] == []


def test_a_temperature_is_in_the_file_and_changes_no_decision(world: World) -> None:
    world.compress(recipe("ptq_int8"), "ptq")
    metrics = world.compress(recipe("ptq_int8_calibrated"), "calibrated")
    before, after = world.logits("ptq"), world.logits("calibrated")
    np.testing.assert_allclose(after, before / metrics["temperature"], rtol=1e-5)
    assert (before.argmax(1) == after.argmax(1)).all()
    effect = world.record("calibrated")["effects"][-1]
    assert effect["nll"] < effect["nll_before"]
    assert effect["n"] == len(world.data.indices("val"))
    assert world.export("calibrated")["agreement"] > 0.98


def test_one_scale_per_tensor_is_the_same_in_ptq_and_qat(world: World) -> None:
    world.compress(recipe("ptq_int8_per_tensor"), "tensor")
    program = load_program(world.root / "tensor" / "model.pt2")
    counts = [
        len(torch.unique(state))
        for name, state in {**program.state_dict, **program.constants}.items()
        if "scale" in name
        and "bias" not in name
        and isinstance(state, torch.Tensor)
        and state.dim()
    ]
    assert len(counts) == 6
    assert set(counts) == {1}
    assert world.record("tensor")["scheme"]["weight"].startswith("int8, per tensor")

    def still(step: dict[str, Any]) -> None:
        step["finetune"] |= {"lr": 1e-12, "epochs": 1}
        step["range_epochs"] = 0

    world.compress(recipe("qat_int8_per_tensor", still), "still")
    ptq, qat = world.logits("tensor"), world.logits("still")
    assert abs(ptq - qat).mean() < 5e-3 * ptq.std()


def candidate(world: World) -> Candidate:
    from edgeward.compression.fusion import fuse
    from edgeward.models.deploy import reparameterize

    module, meta = load_checkpoint(world.checkpoint)
    made = Candidate(module, meta, world.data.root, 0, 1, world.root / "none", None)
    made.module, _ = fuse(reparameterize(made.module), made.example)
    return made


def test_switched_off_quantizers_are_a_converted_float_layer(world: World) -> None:
    """The simulation with a layer in float against the graph converted with it in keep_float."""
    made = candidate(world)
    chosen = recipe("safe_mixed_int8").steps[1]
    assert isinstance(chosen, SafeMixedInt8)
    graph = backend.capture(made.module, made.example)
    simulated = Simulated(made, chosen, chosen.calibrate(made), graph)
    images = torch.from_numpy(to_input(world.data.images[world.data.indices("val")]))
    for names in ((), ("net.1.0",), ("net.0", "net.1.0")):
        kept = chosen.model_copy(update={"keep_float": list(names)})
        converted = backend.convert(kept.calibrate(made))
        with torch.no_grad():
            exact, found = converted(images), simulated.with_float(names)(images)
        assert float((exact - found).abs().mean()) < 0.02 * float(exact.std()), names


def test_units_and_cost_of_a_chain(world: World) -> None:
    made = candidate(world)
    graph = backend.capture(made.module, made.example)
    layers = units(graph, [])
    assert len(layers) == 6
    assert all(
        isinstance(made.module.get_submodule(n), torch.nn.Conv2d | torch.nn.Linear) for n in layers
    )
    free = CostConfig(int8_speedup=2.0, conversion=0.0)
    total = sum(macs(graph, node) for node in graph.graph.nodes if node.target in WEIGHTED) / 1e6
    first = made.module.get_submodule(layers[0])
    assert cost(graph, place(graph, []), free) == pytest.approx(total / 2)
    assert cost(graph, place(graph, layers), free) == pytest.approx(total)
    assert cost(graph, place(graph, ["net"]), free) == pytest.approx(total)
    side = 32 // first.stride[0]
    own = side**2 * first.weight.numel() / 1e6
    assert cost(graph, place(graph, [layers[0]]), free) == pytest.approx((total + own) / 2)
    # The first layer in float: its input is no longer converted, its output is.
    dear = CostConfig(int8_speedup=2.0, conversion=1.0)
    change = cost(graph, place(graph, [layers[0]]), dear) - cost(graph, place(graph, []), dear)
    assert change == pytest.approx(own / 2 + (16 * side**2 - 3 * 32**2) / 1e6, rel=1e-6)


def test_onnxruntime_agrees_on_a_mixed_network(world: World, mixed: dict[str, Any]) -> None:
    images = torch.from_numpy(to_input(world.data.images[world.data.indices("val")]))
    program = load_program(world.root / "mixed" / "model.pt2")
    path = onnx_of(program, images[:2], world.root / "mixed.onnx")
    shipped = run(session(path), images.numpy())
    assert (shipped.argmax(1) == world.logits("mixed").argmax(1)).mean() > 0.98
    assert mixed["precision"] == "int8"
