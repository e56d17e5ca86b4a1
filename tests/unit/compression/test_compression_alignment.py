"""Aligned decisions on a trained network: what is recorded, exported, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from compression_nets import executed
from compression_trained import Trained, recipe, train
from shipped import shipped
from torch import nn

from edgeward.compression.alignment import shifted
from edgeward.compression.config import RecipeConfig
from edgeward.data.store import to_input
from edgeward.export.config import export_config
from edgeward.export.stage import run as export
from edgeward.models.program import export_program, load_program
from edgeward.runtimes.session import open_session
from edgeward.statistics.temperature import log_softmax


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(tmp_path_factory.mktemp("aligned"))


def exported(world: Trained, tag: str) -> np.ndarray:
    """Export, with parity checked, and return the file's logits of the validation split."""
    at = world.root / tag
    export(
        export_config(shipped("export", "onnx")), program=at / "model.pt2", recipe=at / "recipe.json",
        prepared=world.data.root, out=at, threads=1,
    )  # fmt: skip
    session = open_session(at / "model.onnx", 1)
    return session.run(to_input(world.data.images[world.data.indices("val")]))


@pytest.mark.parametrize("labels", [False, True])
def test_borders_go_back_and_cost_no_operator(world: Trained, labels: bool) -> None:
    plain = RecipeConfig.model_validate(shipped("compress", "ptq_int8"))
    content = shipped("compress", "ptq_int8_aligned")
    content["steps"][2]["labels"] = labels
    world.compress(plain, "plain")
    metrics = world.compress(RecipeConfig.model_validate(content), "aligned")
    effect = world.record("aligned")["effects"][-1]
    assert effect["step"] == "align_decisions"
    assert effect["in_bias"]
    offsets = np.array(effect["offsets"])
    assert metrics["largest_offset"] == pytest.approx(np.abs(offsets).max())
    wanted = np.array(effect["calls_reference"])
    off_before = np.abs(np.array(effect["calls_before"]) - wanted).max()
    off = np.abs(np.array(effect["calls"]) - wanted).max()
    smallest = min(np.bincount(world.data.labels[world.data.indices("val")])) if labels else 120
    assert off <= max(off_before, 2 / smallest)
    before, after = exported(world, "plain"), exported(world, "aligned")
    step = float(np.diff(np.unique(before)).min())  # logits of the plain file are rounded
    assert after - before == pytest.approx(np.tile(offsets, (len(after), 1)), abs=2 * step)
    # The logits are not rounded any more, so there is an operator less, not more.
    ran = [executed(world.root / tag / "model.onnx") for tag in ("plain", "aligned")]
    assert sum(ran[1].values()) <= sum(ran[0].values())


@pytest.mark.parametrize("probabilities", ["kept", "moved"])
def test_probabilities_stay_unless_they_shall_move(world: Trained, probabilities: str) -> None:
    prune = {"step": "magnitude_prune", "sparsity": 0.7, "finetune": None}
    content = shipped("compress", "fp32") | {"steps": [{"step": "reparameterize"}, prune]}
    world.compress(RecipeConfig.model_validate(content), "pruned")
    content["steps"].append({"step": "align_decisions", "probabilities": probabilities})
    world.compress(RecipeConfig.model_validate(content), "moved")
    offsets = np.array(world.record("moved")["effects"][-1]["offsets"])
    assert np.abs(offsets).max() > 0.01
    images = torch.from_numpy(to_input(world.data.images[:40]))
    logits, shifts = [], []
    for tag in ("pruned", "moved"):
        with torch.no_grad():
            logits.append(load_program(world.root / tag / "model.pt2").module()(images).numpy())
        shifts.append(np.array(world.record(tag)["meta"]["logit_shift"]))
    assert logits[1] - logits[0] == pytest.approx(np.tile(offsets, (40, 1)), abs=1e-4)
    natural = [
        log_softmax(a.astype(float) + shift) for a, shift in zip(logits, shifts, strict=True)
    ]
    if probabilities == "kept":
        assert natural[1] == pytest.approx(natural[0], abs=1e-4)
    else:
        assert shifts[1] == pytest.approx(shifts[0])
        assert np.abs(natural[1] - natural[0]).max() > 0.01


class Averaged(nn.Module):
    """Two heads, averaged, as distilled transformers have them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = (self.one(x) + self.two(x)) / 2
        return result


@pytest.mark.parametrize(
    ("net", "in_bias"),
    [
        (nn.Linear(4, 3), True),
        (Averaged(), True),
        (nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)), True),
        (nn.Linear(4, 3, bias=False), False),
        (nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(1)), False),
    ],
)
def test_constants_are_added_whatever_ends_the_network(net: nn.Module, in_bias: bool) -> None:
    x, move = torch.randn(5, 4), torch.tensor([0.5, -1.0, 2.0])
    expected = (net.eval()(x) + move).detach().numpy()
    after, found = shifted(export_program(net, x).module(), move, x)
    assert found is in_bias
    assert after.module()(x).detach().numpy() == pytest.approx(expected, abs=1e-6)


def test_the_control_trains_as_qat_does(world: Trained) -> None:
    content, qat = shipped("compress", "finetuned"), shipped("compress", "qat_int8")
    assert content["steps"][1]["finetune"] == qat["steps"][1]["finetune"]
    world.compress(recipe("finetuned"), "finetuned")
    record = world.record("finetuned")
    assert record["precision"] == "fp32"
    assert len(record["found"]["history"]) == content["steps"][1]["finetune"]["epochs"]
    images = torch.from_numpy(to_input(world.data.images[:4]))
    with torch.no_grad():
        trained = load_program(world.root / "finetuned/model.pt2").module()(images).numpy()
    world.compress(RecipeConfig.model_validate(shipped("compress", "fp32")), "fp32")
    with torch.no_grad():
        plain = load_program(world.root / "fp32/model.pt2").module()(images).numpy()
    assert np.abs(trained - plain).max() > 1e-4
