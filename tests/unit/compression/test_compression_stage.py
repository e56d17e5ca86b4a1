"""The stage end to end on a trained network: fp32, PTQ, QAT, what they write and how they compare."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compression_nets import executed, onnx_of, run, session
from compression_trained import TRAIN
from refusals import naming
from scipy.special import rel_entr, softmax
from shipped import shipped
from small_data import meta, write_small_prepared

from edgeward.compression.config import RecipeConfig
from edgeward.compression.stage import run as compress
from edgeward.core.errors import UserError
from edgeward.core.io import digest, read_json
from edgeward.data.store import Prepared, open_prepared, to_input
from edgeward.models.checkpoint import load_checkpoint, save_checkpoint
from edgeward.models.config import ModelConfig
from edgeward.models.deploy import Deployable
from edgeward.models.factory import build
from edgeward.models.program import load_program


def recipe(name: str, **changes: Any) -> RecipeConfig:
    """Return the recipe of the config tree, with the last step's keys changed; PTQ with the ranges that QAT starts from."""
    content = shipped("compress", name)
    if name == "ptq_int8":
        content["steps"][-1]["observer"] = "minmax"
    if name == "qat_int8":
        content["steps"][-1]["finetune"] |= TRAIN | {"lr": 1e-3}
    content["steps"][-1] |= changes
    return RecipeConfig.model_validate(content)


@dataclass
class World:
    """A trained network whose activations have an outlier channel, and its data."""

    root: Path
    prepared: Path
    checkpoint: Path
    data: Prepared

    def compress(self, chosen: RecipeConfig, tag: str, **kwargs: Any) -> dict[str, float]:
        out = self.root / tag
        (out / "work").mkdir(parents=True, exist_ok=True)
        return compress(
            chosen,
            seed=0,
            checkpoint=self.checkpoint,
            prepared=self.prepared,
            out=out,
            work=out / "work",
            threads=1,
            **kwargs,
        )

    def logits(self, tag: str) -> np.ndarray:
        with torch.no_grad():
            model = load_program(self.root / tag / "model.pt2").module()
            return model(self.images()).numpy()

    def images(self) -> torch.Tensor:
        held_out = np.flatnonzero(self.data.splits != "train")
        return torch.from_numpy(to_input(self.data.images[held_out]))

    def labels(self) -> np.ndarray:
        return self.data.labels[self.data.splits != "train"]

    def loss(self, tag: str) -> float:
        logits = torch.from_numpy(self.logits(tag))
        return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(self.labels())))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Train DS-CNN for some steps, then scale one channel up and its reader down by 300."""
    root = tmp_path_factory.mktemp("compress")
    prepared = write_small_prepared(root / "prepared", n=400)
    data = open_prepared(prepared)
    config = ModelConfig(
        name="dscnn",
        builder="edgeward",
        architecture="dscnn",
        dense=False,
        family="cnn",
        drop_rate=0.0,
        branch_gain=1.0,
        options={"width": 16, "blocks": 2},
    )
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = build(config, num_classes=3, in_chans=3, image_size=(32, 32))
    card = data.card
    model = Deployable(net, card.channel_mean, card.channel_std)
    train = data.indices("train")
    images = torch.from_numpy(to_input(data.images[train]))
    labels = torch.from_numpy(data.labels[train])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(40):
        batch = torch.randperm(len(train), generator=torch.Generator().manual_seed(step))[:64]
        loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        first, second = net[0], net[1]
        first[1].weight[3] *= 300
        first[1].bias[3] *= 300
        second[0].weight[3] /= 300
    facts = meta(model=config.model_dump(mode="json"), mean=card.channel_mean, std=card.channel_std)
    save_checkpoint(root / "model.pt", model, facts)
    made = World(root, prepared, root / "model.pt", data)
    for name in ("fp32", "ptq_int8", "qat_int8"):
        metrics = made.compress(recipe(name), name)
        (root / name / "metrics.json").write_text(json.dumps(metrics))
    return made


def test_fp32_is_the_trained_network(world: World) -> None:
    model, _ = load_checkpoint(world.checkpoint)
    with torch.no_grad():
        expected = model(world.images()).numpy()
    np.testing.assert_allclose(world.logits("fp32"), expected, rtol=1e-3, atol=1e-3)
    assert (expected.argmax(1) == world.labels()).mean() > 0.8


def test_ptq_is_close_to_fp32(world: World) -> None:
    exact, rounded = world.logits("fp32"), world.logits("ptq_int8")
    assert 0 < abs(exact - rounded).mean() < 0.3 * exact.std()
    assert (exact.argmax(1) == rounded.argmax(1)).mean() > 0.85


def test_qat_is_no_worse_than_ptq(world: World) -> None:
    assert world.loss("qat_int8") < world.loss("ptq_int8")


def test_an_outlier_is_why_ptq_loses(world: World) -> None:
    # Two layers in float: the one with the outlier and the one that reads it.
    world.compress(recipe("ptq_int8", keep_float=["net.0", "net.1.0"]), "kept")
    exact = world.logits("fp32")
    without, kept = world.logits("ptq_int8"), world.logits("kept")
    assert abs(kept - exact).mean() < 0.2 * abs(without - exact).mean()
    record = read_json(world.root / "kept" / "recipe.json")
    assert record["keep_float"] == ["net.0", "net.1.0"]
    assert record["found"]["float_layers"] == ["net.0.0", "net.1.0"]
    assert record["quantized_parameter_share"] < 1


@pytest.mark.parametrize("name", ["fp32", "ptq_int8", "qat_int8"])
def test_the_record_is_complete(world: World, name: str) -> None:
    record = read_json(world.root / name / "recipe.json")
    needed = {
        "recipe",
        "steps",
        "precision",
        "backend",
        "versions",
        "scheme",
        "calibration",
        "parameters",
        "meta",
    }
    assert needed <= record.keys()
    assert record["recipe"] == name
    assert record["meta"] == load_checkpoint(world.checkpoint)[1].content()
    metrics = read_json(world.root / name / "metrics.json")
    assert metrics["parameters"] == record["parameters"]
    assert metrics["program_bytes"] == (world.root / name / "model.pt2").stat().st_size
    if name == "fp32":
        assert (record["precision"], record["calibration"]["n"]) == ("fp32", 0)
        return
    assert record["precision"] == "int8"
    assert {"torch", "torchao", "neural_compressor"} <= record["versions"].keys()
    assert (
        record["calibration"]["n"] == len(world.data.calibration) == metrics["calibration_images"]
    )
    assert len(record["calibration"]["sha256"]) == 64
    assert record["quantized_parameter_share"] == 1 == metrics["quantized_parameter_share"]
    assert record["found"]["float_layers"] == []


def test_ptq_and_qat_differ_in_the_training_only(world: World) -> None:
    records = {n: read_json(world.root / n / "recipe.json") for n in ("ptq_int8", "qat_int8")}
    same = ("scheme", "calibration", "versions", "backend", "keep_float", "parameters")
    for key in same:
        assert records["ptq_int8"][key] == records["qat_int8"][key], key
    assert records["ptq_int8"]["found"]["folded"] == records["qat_int8"]["found"]["folded"]
    graphs = [load_program(world.root / n / "model.pt2").graph for n in records]
    ops = [
        [str(node.target) for node in graph.nodes if node.op != "placeholder"] for graph in graphs
    ]
    assert ops[0] == ops[1]
    metrics = read_json(world.root / "qat_int8" / "metrics.json")
    assert 0 <= metrics["val_balanced_accuracy"] <= 1
    assert len(records["qat_int8"]["found"]["history"]) == 2


def test_ranges_are_those_whose_probabilities_stay_closest(world: World) -> None:
    """The divergences in the record against SciPy's, of programs made with each observer; what ships is the best of them."""
    world.compress(recipe("ptq_int8", observer="auto"), "auto")
    record = read_json(world.root / "auto" / "recipe.json")
    ranges = record["found"]["ranges"]
    assert list(ranges) == ["minmax", "mean", "histogram"]
    images = torch.from_numpy(to_input(world.data.images[world.data.calibration]))

    def probabilities(tag: str) -> np.ndarray:
        with torch.no_grad():
            logits = load_program(world.root / tag / "model.pt2").module()(images).numpy()
        return softmax(logits.astype(np.float64), axis=1)

    exact = probabilities("fp32")
    for name, divergence in ranges.items():
        world.compress(recipe("ptq_int8", observer=name), f"ranges_{name}")
        expected = rel_entr(exact, probabilities(f"ranges_{name}")).sum(1).mean()
        assert divergence == pytest.approx(expected, rel=0.02, abs=1e-5), name
    best = min(ranges, key=ranges.get)
    assert len({f"{value:.4g}" for value in ranges.values()}) == 3, "nothing to choose from"
    assert record["scheme"]["observer"] == best
    np.testing.assert_array_equal(world.logits("auto"), world.logits(f"ranges_{best}"))


def test_onnxruntime_runs_integer_kernels_and_agrees(world: World) -> None:
    images = world.images()
    for name in ("ptq_int8", "qat_int8"):
        program = load_program(world.root / name / "model.pt2")
        path = onnx_of(program, images[:2], world.root / f"{name}.onnx")
        found = executed(path)
        assert found["QLinearConv"] == 5
        assert found["QGemm"] == 1
        assert "Conv" not in found
        shipped, simulated = run(session(path), images.numpy()), world.logits(name)
        assert (shipped.argmax(1) == simulated.argmax(1)).mean() >= 0.99
        assert abs(shipped - simulated).mean() < 0.01 * simulated.std()


def test_same_seed_same_program(world: World) -> None:
    world.compress(recipe("ptq_int8"), "again")
    np.testing.assert_array_equal(world.logits("again"), world.logits("ptq_int8"))


def test_no_training_is_ptq(world: World) -> None:
    """With a vanishing learning rate QAT must end where it started: at the PTQ model."""
    step = recipe("qat_int8").steps[-1].model_dump()
    step["finetune"] |= {"lr": 1e-12, "epochs": 1}
    still = recipe("qat_int8", **{**step, "range_epochs": 0})
    world.compress(still, "still")
    ptq, qat = world.logits("ptq_int8"), world.logits("still")
    assert abs(ptq - qat).mean() < 5e-3 * ptq.std()
    assert (ptq.argmax(1) == qat.argmax(1)).all()


KILLED = """
import json, os, signal, sys
from pathlib import Path
from edgeward.compression.config import RecipeConfig
from edgeward.compression.stage import run

def die(epoch, metrics):
    os.kill(os.getpid(), signal.SIGKILL)

root, prepared, checkpoint, recipe = sys.argv[1:]
run(RecipeConfig.model_validate(json.loads(recipe)), seed=0, checkpoint=Path(checkpoint),
    prepared=Path(prepared), out=Path(root), work=Path(root) / "work", threads=1, live=die)
"""


def test_killed_in_training_and_run_again(world: World) -> None:
    """SIGKILL after the first of two epochs; the second run ends as one that was never killed."""
    out = world.root / "killed"
    (out / "work").mkdir(parents=True)
    chosen = recipe("qat_int8")
    arguments = [out, world.prepared, world.checkpoint, chosen.model_dump_json()]
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in out.iterdir()] == ["work"], "nothing half-written may be left"
    epochs = []
    world.compress(chosen, "killed", live=lambda epoch, _: epochs.append(epoch))
    assert epochs == [2]
    np.testing.assert_array_equal(world.logits("killed"), world.logits("qat_int8"))


def test_calibration_larger_than_the_set_is_an_error(world: World) -> None:
    wanted = recipe("ptq_int8", calibration={"images": 10_000, "batch_size": 8})
    with pytest.raises(UserError, match=naming("compress.steps[..].calibration.images", 10000, 32)):
        world.compress(wanted, "many")
    assert not (world.root / "many" / "model.pt2").exists()


def test_calibration_hash_names_the_pixels(world: World) -> None:
    world.compress(recipe("ptq_int8", calibration={"images": 16, "batch_size": 5}), "fewer")
    fewer, full = (
        read_json(world.root / n / "recipe.json")["calibration"] for n in ("fewer", "ptq_int8")
    )
    assert fewer["n"] == 16
    assert fewer["sha256"] != full["sha256"]


def test_the_fp32_recipe_imports_no_quantizer() -> None:
    code = (
        "import sys, edgeward.compression.stage, edgeward.compression.fusion\n"
        "assert not {'torchao', 'neural_compressor', 'pytorch_lightning'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_configs_import_no_torch() -> None:
    code = (
        "import sys, edgeward.compression.config\n"
        "assert not {'torch', 'numpy', 'torchao'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"keep_flaot": []}, ("steps.1.ptq_int8.keep_flaot",)),
        (
            {"observer": "percentile"},
            ("steps.1.ptq_int8.observer", "'auto'", "'minmax'", "'mean'", "'percentile'"),
        ),
        (
            {"calibration": {"images": 0, "batch_size": 8}},
            ("steps.1.ptq_int8.calibration.images.constrained-int", 1),
        ),
        ({"step": "ptq_int4"}, ("steps.1", "'ptq_int4'", "'ptq_int8'")),
    ],
)
def test_wrong_recipes_are_refused(change: dict[str, Any], parts: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match=naming(*parts)):
        recipe("ptq_int8", **change)


def test_nothing_follows_a_final_step() -> None:
    content = recipe("ptq_int8").model_dump()
    content["steps"].append({"step": "reparameterize"})
    with pytest.raises(ValueError, match=naming("step 2", 3, "temperature_scale")):
        RecipeConfig.model_validate(content)


def test_ranges_must_rest_before_training_ends() -> None:
    with pytest.raises(
        ValueError, match=naming("steps.1.qat_int8", "range_epochs", "finetune.epochs", 2)
    ):
        recipe("qat_int8", range_epochs=2)


def test_a_recipe_survives_its_own_dump() -> None:
    for name in ("fp32", "ptq_int8", "qat_int8"):
        chosen = recipe(name)
        dumped = chosen.model_dump(mode="json")
        assert digest(RecipeConfig.model_validate(dumped).model_dump(mode="json")) == digest(dumped)
