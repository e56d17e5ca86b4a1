"""Several findings per image from drawing to verdict, in one process, on almost nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from findings import prepare
from shipped import ROOTS, shipped

from edgeward.compression.config import RecipeConfig
from edgeward.compression.constraint.training import balanced_batch
from edgeward.compression.stage import run as compress
from edgeward.core.errors import UserError
from edgeward.data.store import Prepared, open_prepared, to_input
from edgeward.export.config import export_config
from edgeward.export.stage import run as export
from edgeward.models.checkpoint import load_checkpoint
from edgeward.models.config import ModelConfig
from edgeward.pipeline.compose import compose
from edgeward.pipeline.tasks import check_fit
from edgeward.records.parity import Parity
from edgeward.records.recipe import Recipe
from edgeward.records.safety import Pooled, Safety, Verdict
from edgeward.runtimes.session import open_session
from edgeward.safety import pooled, stage
from edgeward.safety.config import SafetyGroup
from edgeward.training.config import TrainConfig
from edgeward.training.stage import run as train

SMALL = ("data.source.n_train=96", "data.source.n_val=64", "data.source.n_test=80", "data.seed=3")
TRAIN = ("train.epochs=1", "train.augment.degrees=0")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared set, and a network that has seen it once."""
    root = tmp_path_factory.mktemp("findings")
    prepare(root / "data", *SMALL)
    train(
        ModelConfig.model_validate(shipped("model", "dscnn")),
        TrainConfig.model_validate(shipped("train", "smoke_multilabel", *TRAIN)),
        seed=0, prepared=root / "data", out=root / "train", work=root / "work", threads=1,
    )  # fmt: skip
    return root


def finetune() -> dict[str, Any]:
    trained = shipped("train", "smoke_multilabel", *TRAIN)
    return {key: trained[key] for key in ("loss", "augment")} | {"epochs": 1, "batch_size": 32}


def made(world: Path, name: str, steps: list[dict[str, Any]]) -> Recipe:
    """Compress the network by some steps; return the record."""
    compress(
        RecipeConfig.model_validate({"name": name, "steps": steps}),
        seed=0, checkpoint=world / "train" / "model.pt", prepared=world / "data", out=world / name,
        work=world / name / "work", threads=1, teachers={"teacher": world / "train" / "model.pt"},
    )  # fmt: skip
    return Recipe.read(world / name / "recipe.json")


def assessed(world: Path, name: str, reference: str | None) -> tuple[Safety, Verdict]:
    """Export and assess what `made` wrote."""
    export(
        export_config(shipped("export", "onnx")), program=world / name / "model.pt2",
        recipe=world / name / "recipe.json", prepared=world / "data", out=world / name, threads=1,
    )  # fmt: skip
    cfg = SafetyGroup(resamples=200, strata={"views": None}, corruptions=["noise"], severities=[3])
    stage.run(
        cfg, model=world / name / "model.onnx", prepared=world / "data", out=world / name / "assess",
        reference=None if reference is None else world / reference / "assess", threads=1,
    )  # fmt: skip
    at = world / name / "assess"
    return Safety.read(at / "safety.json"), Verdict.read(at / "verdict.json")


def test_decisions_are_at_the_thresholds_that_training_set(world: Path) -> None:
    network, meta = load_checkpoint(world / "train" / "model.pt")
    assert meta.thresholds is not None
    assert np.ptp(meta.thresholds) > 0
    fp32 = made(world, "fp32", shipped("compress", "fp32")["steps"])
    assert fp32.meta.thresholds is None
    shift = np.array(meta.logit_shift) + meta.thresholds
    np.testing.assert_allclose(fp32.meta.logit_shift, shift)
    safety, verdict = assessed(world, "fp32", None)
    assert verdict.verdict == "reference"
    data = open_prepared(world / "data")
    session = open_session(world / "fp32" / "model.onnx", 1)
    assert json.loads(session.metadata()["exclusive"]) is False
    images = to_input(data.images[data.indices("test")])

    with torch.no_grad():
        raw = network.eval()(torch.from_numpy(images)).numpy()
    clear = np.abs(raw - meta.thresholds) > 1e-3
    called = session.run(images) > 0
    np.testing.assert_array_equal(called[clear], (raw > meta.thresholds)[clear])
    threshold: Any = safety.facts["threshold"]
    np.testing.assert_allclose(list(threshold.values()), 1 / (1 + np.exp(-shift)), atol=1e-4)


def test_int8_aligned_and_judged(world: Path) -> None:
    if not (world / "fp32" / "assess").is_dir():
        made(world, "fp32", shipped("compress", "fp32")["steps"])
        assessed(world, "fp32", None)
    record = made(world, "int8", shipped("compress", "ptq_int8_aligned")["steps"])
    assert record.precision == "int8"
    effect: Any = record.effects[-1]
    assert np.abs(np.subtract(effect["calls"], effect["calls_reference"])).max() <= 1 / 64 + 1e-9
    safety, verdict = assessed(world, "int8", "fp32")
    assert Parity.read(world / "int8" / "parity.json").passed
    names = [row.name for row in safety.per_class]
    asked = {"recall of veil", "recall of scar", "balanced accuracy", "mean AUC", "mAP", "RMS-ECE"}
    assert {row.name for row in verdict.endpoints} == asked
    assert all(row.cases_needed for row in verdict.endpoints if row.outcome == "inconclusive")
    assert [row.name for row in verdict.decisions] == names
    assert {row.column for row in verdict.strata} == {"views"}
    assert [row.metric for row in verdict.corruptions] == ["exact_match"]
    folders = {("m", r): dict.fromkeys((0, 1), world / r / "assess") for r in ("fp32", "int8")}
    cfg, out = SafetyGroup(resamples=200), world / "pooled.json"
    pooled.run(cfg, prepared=world / "data", folders=folders, references={"m": "fp32"}, out=out)
    assert {"map", "auc_macro", "recall_scar"} <= set(Pooled.read(out).rows[0].metrics)


def test_distillation_and_constrained_qat(world: Path) -> None:
    teacher = {"step": "distill", "teacher": "teacher", "finetune": finetune()}
    made(world, "distilled", [teacher])
    qat = next(s for s in shipped("compress", "safe_qat_int8")["steps"] if s["step"] == "qat_int8")
    qat |= {"range_epochs": 0}
    qat["finetune"] |= finetune()
    qat["finetune"]["constraint"]["acceptance"]["resamples"] = 200
    record = made(world, "safe", [qat])
    found: Any = record.found
    asked = [row["metric"] for row in found["acceptance"]["endpoints"]]
    assert asked == ["recall_veil", "recall_scar", "ece"]
    (epoch,) = found["history"]
    assert {"val_map", "violation_recall_scar", "multiplier_ece"} <= epoch.keys()
    assert np.isfinite(list(epoch.values())).all()


def test_one_temperature_is_not_for_findings(world: Path) -> None:
    """Said when the plan is made, by what the task says of itself."""
    run = compose(ROOTS, {}, ("data=phantom_findings_tiny", "model=dscnn", "train=multilabel"))
    check_fit(ROOTS, run, "here")
    run["compress"]["steps"] = [{"step": "temperature_scale"}]
    with pytest.raises(UserError, match="temperature_scale"):
        check_fit(ROOTS, run, "here")


def test_margins_of_acceptance_are_those_of_the_task() -> None:
    qat = shipped("compress", "safe_qat_int8", "data=phantom_findings_tiny", "train=multilabel",
                  "safety.multilabel.margins.recall=0.07", "safety.multiclass.margins.recall=0.2")  # fmt: skip
    step = next(s for s in qat["steps"] if s["step"] == "qat_int8")
    assert step["finetune"]["constraint"]["acceptance"]["margins"]["recall"] == 0.07


def test_rare_findings_are_in_every_constraint_batch(world: Path) -> None:

    data: Prepared = open_prepared(world / "data")
    held = data.held(balanced_batch(data, "train", 24, seed=0, step=1))
    assert (held.sum(axis=0) >= 4).all()
    assert (~held.any(axis=1)).sum() >= 4
