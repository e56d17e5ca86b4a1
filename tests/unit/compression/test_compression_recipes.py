"""Every recipe that prunes, factorises or distils: through the stage, exported, parity-checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from compression_trained import Trained, recipe, train
from refusals import naming
from shipped import shipped

from edgeward.compression.config import RecipeConfig
from edgeward.compression.step import Step
from edgeward.compression.steps.distill import Distill
from edgeward.compression.steps.magnitude_prune import MagnitudePrune
from edgeward.compression.steps.qat_int8 import QatInt8
from edgeward.core.errors import UserError
from edgeward.core.io import read_json
from edgeward.export import stage as export
from edgeward.export.config import export_config
from edgeward.models.program import load_program
from edgeward.training.config import FinetuneConfig

RECIPES = ["prune_80", "structured_50", "low_rank", "prune_distil_qat"]
SPARSITY = 0.5


def training_of(step: Step) -> FinetuneConfig:
    """Return the fine-tuning that a step ends with."""
    assert isinstance(step, MagnitudePrune | Distill | QatInt8)
    assert step.finetune is not None
    return step.finetune


def tiny(name: str) -> RecipeConfig:
    """Return a recipe for 1,280 weights, of which half can be spared but not four fifths."""
    return recipe(name, **({"sparsity": SPARSITY} if name.startswith("prune") else {}))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    made = train(tmp_path_factory.mktemp("recipes"))
    for name in ("fp32", *RECIPES):
        made.compress(tiny(name), name)
    return made


@pytest.mark.parametrize("name", RECIPES)
def test_it_is_exported_and_onnxruntime_agrees(world: Trained, name: str, tmp_path: Path) -> None:
    content = shipped("export", "onnx")
    export.run(
        export_config(content),
        program=world.root / name / "model.pt2",
        recipe=world.root / name / "recipe.json",
        prepared=world.data.root,
        out=tmp_path,
        threads=1,
    )  # raises where the parity check fails
    assert read_json(tmp_path / "parity.json")
    assert world.accuracy(name) > 0.9 * world.accuracy("fp32")


def test_pruned_weights_are_zeros_in_what_ships(world: Trained) -> None:
    effect = world.record("prune_80")["effects"][1]
    assert effect["step"] == "magnitude_prune"
    assert effect["zeros"] == round(SPARSITY * effect["weights"])
    state = load_program(world.root / "prune_80" / "model.pt2").state_dict
    weights = [t for t in state.values() if t.dim() > 1 and t.numel() > 3]
    assert sum(int((w == 0).sum()) for w in weights) >= effect["zeros"]
    for name, share in effect["sparsity_by_layer"].items():
        assert (state[name] == 0).double().mean().item() == pytest.approx(share)


def test_zeros_survive_distillation_and_qat(world: Trained) -> None:
    record = world.record("prune_distil_qat")
    effects = {effect["step"]: effect for effect in record["effects"]}
    assert list(effects) == ["reparameterize", "magnitude_prune", "distill", "qat_int8"]
    assert record["precision"] == "int8"
    program = load_program(world.root / "prune_distil_qat" / "model.pt2")
    tensors = {**program.state_dict, **program.constants}
    weights = [t for t in tensors.values() if t.dtype == torch.int8]
    assert sum(w.numel() for w in weights) == effects["magnitude_prune"]["weights"]
    assert sum(int((w == 0).sum()) for w in weights) >= effects["magnitude_prune"]["zeros"]
    assert effects["distill"]["teacher_parameters"] > 2 * record["parameters"]
    epochs = [training_of(step).epochs for step in recipe("prune_distil_qat").steps[1:]]
    assert [row["epoch"] for row in record["found"]["history"]] == list(range(1, sum(epochs) + 1))


def test_half_the_channels_leave_a_quarter_of_the_products(world: Trained) -> None:
    effect = world.record("structured_50")["effects"][1]
    assert all(after == before // 2 for before, after in effect["channels"].values())
    assert set(effect["channels"]) == {f"net.{i}.0" for i in range(5)}  # not the classifier
    # DS-CNN of width w on 32x32: stem 256*27w, blocks of 9w + w**2 at 256 and 64 pixels, head 3w.
    macs = [256 * 27 * w + (256 + 64) * (9 * w + w * w) + 3 * w for w in (16, 8)]
    assert effect["macs"] == macs
    # With the biases that the folded norms leave: stem 28w, a block 10w + w**2 + w, head 3w + 3.
    parameters = [28 * w + 2 * (11 * w + w * w) + 3 * w + 3 for w in (16, 8)]
    assert effect["parameters"] == parameters
    weights = load_program(world.root / "structured_50" / "model.pt2").state_dict
    assert sum(t.numel() for n, t in weights.items() if n.startswith("net.")) == parameters[1]


def test_low_rank_pays_and_says_where(world: Trained) -> None:
    effect = world.record("low_rank")["effects"][1]
    before, after = effect["macs"]
    assert after <= 0.6 * before
    state = load_program(world.root / "low_rank" / "model.pt2").state_dict
    for name, (full, rank) in effect["ranks"].items():
        first, second = state[f"{name}.0.weight"], state[f"{name}.1.weight"]
        assert first.shape[0] == second.shape[1] == rank < full
        assert 0 < effect["relative_errors"][name] < 1
    assert any("depthwise" in why for why in effect["layers_kept"].values())


class Killed(Exception):
    pass


def test_killed_in_its_second_training_it_ends_the_same(world: Trained) -> None:
    chosen = tiny("prune_distil_qat")
    first = training_of(chosen.steps[1]).epochs
    seen: list[int] = []

    def kill(epoch: int, _: dict[str, float]) -> None:
        if epoch == first + 2:
            raise Killed

    with pytest.raises(Killed):
        world.compress(chosen, "again", live=kill)
    assert sorted(p.parent.name for p in (world.root / "again").rglob("finetune.pt")) == ["1", "2"]
    world.compress(chosen, "again", live=lambda epoch, _: seen.append(epoch))
    assert seen[0] == first + 3, "finished epochs are not repeated"
    whole, resumed = (
        load_program(world.root / tag / "model.pt2") for tag in ("prune_distil_qat", "again")
    )
    tensors = {**resumed.state_dict, **resumed.constants}
    expected = {**whole.state_dict, **whole.constants}
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[key], expected[key]) for key in expected)


def test_without_training_a_step_only_prunes(world: Trained) -> None:
    metrics = world.compress(recipe("prune_50", finetune=None), "once")
    assert metrics["sparsity"] == pytest.approx(0.5, abs=1e-3)
    assert "history" not in world.record("once")


@pytest.mark.parametrize("importance", ["taylor", "random"])
def test_other_importances(world: Trained, importance: str) -> None:
    chosen = recipe("structured_50", importance=importance, finetune=None)
    world.compress(chosen, importance)
    again = world.compress(chosen, f"{importance}2")
    assert again["parameters"] < 700
    a, b = (world.record(tag)["effects"] for tag in (importance, f"{importance}2"))
    assert a == b


@pytest.mark.parametrize(
    ("name", "changes", "parts"),
    [
        ("prune_50", {"keep_dense": ["net.9.x"]}, ("'net.9.x'", "compress.steps[..].keep_dense")),
        (
            "structured_50",
            {"keep_channels": ["net.8.x"]},
            ("'net.8.x'", "compress.steps[..].keep_channels"),
        ),
        ("structured_50", {"round_to": 32}, ("structured_prune", "50%", 32, "round_to")),
        (
            "structured_50",
            {"target": "macs", "share": 0.01},
            ("structured_prune", "1%", "compress.steps[..].share"),
        ),
        ("low_rank", {"keep_whole": ["head"]}, ("'head'", "compress.steps[..].keep_whole")),
        (
            "low_rank",
            {"rank_by": "energy", "level": 0.999999999},
            ("low_rank", "energy 0.999999999", "compress.steps[..].level"),
        ),
    ],
)
def test_what_cannot_be_done_is_said(
    world: Trained, name: str, changes: dict[str, Any], parts: tuple[object, ...]
) -> None:
    with pytest.raises(UserError, match=naming(*parts)):
        world.compress(recipe(name, **changes), "refused")


def test_a_missing_or_unlike_teacher_is_refused(world: Trained) -> None:
    chosen = recipe("prune_distil_qat", finetune=None)
    with pytest.raises(UserError, match=naming("'resnet18'", "none")):
        world.compress(chosen, "refused", teachers={})
    content = recipe("prune_distil_qat", finetune=None).model_dump()
    content["steps"][2]["finetune"]["loss"]["name"] = "logit_adjusted"
    with pytest.raises(UserError, match=naming("'logit_adjusted'", "${train.loss}")):
        world.compress(RecipeConfig.model_validate(content), "refused")


@pytest.mark.parametrize("later", ["reparameterize", "low_rank", "structured_prune"])
def test_steps_that_would_undo_zeros_are_refused(later: str) -> None:
    steps = {
        "reparameterize": {"step": "reparameterize"},
        "low_rank": recipe("low_rank").steps[1].model_dump(),
        "structured_prune": recipe("structured_50").steps[1].model_dump(),
    }
    content = recipe("prune_50").model_dump()
    content["steps"].append(steps[later])
    with pytest.raises(ValueError, match=naming("step 3", "step 2")):
        RecipeConfig.model_validate(content)
