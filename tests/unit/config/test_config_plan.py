"""Composition, validation and slices of the real config tree."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.pipeline.compose import names
from edgeward.pipeline.plan import Candidate, Plan, check_settings
from edgeward.safety.config import SafetyGroup, StudyConfig

PROJECT = Path(__file__).resolve().parents[3]
ROOT = PROJECT / "config"
CHOICE = {"data": "phantom_tiny", "model": "mobilenetv3_small", "recipe": "fp32"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the config tree that a test may change."""
    return shutil.copytree(ROOT, tmp_path / "config")


@pytest.mark.parametrize("sweep", names((ROOT,), "sweeps"))
def test_every_shipped_sweep_is_valid(sweep: str) -> None:
    plan = Plan.load((ROOT,), sweep)
    s = plan.sweep
    n = len(s.data) * len(s.model) * len(s.recipe) * len(s.seed)
    assert len(set(plan.candidates)) == n


def test_slices_hold_what_the_stage_reads_and_nothing_else() -> None:
    plan = Plan.load((ROOT,), "smoke")
    c = Candidate("phantom_tiny", "mobilenetv3_small", 0, "qat_int8")
    assert set(plan.prepare(c.data)) == {"data"}
    assert set(plan.train(c.data, c.model, 3)) == {"model", "train", "seed"}
    assert plan.train(c.data, c.model, 3)["seed"] == 3
    assert set(plan.stage("compress", c)) == {"compress", "seed"}
    assert plan.stage("profile", c, "host_quick")["profile"]["name"] == "host_quick"
    text = json.dumps(
        [plan.prepare(c.data), plan.train(c.data, c.model, 0), plan.stage("assess", c)]
    )
    assert str(PROJECT) not in text


@pytest.mark.parametrize(
    "override", ["safety.resamples=777", "safety.multiclass.margins.recall=0.02"]
)
def test_an_override_reaches_only_its_slice(override: str) -> None:
    before, after = Plan.load((ROOT,), "smoke"), Plan.load((ROOT,), "smoke", (override,))
    c = before.candidates[1]
    assert before.stage("assess", c) != after.stage("assess", c)
    for stage in ("compress", "export"):
        assert before.stage(stage, c) == after.stage(stage, c)
    assert before.train(c.data, c.model, 0) == after.train(c.data, c.model, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recipes": ["fp32"]}, ["'recipes'", "'recipe'"]),
        ({"model": ["resnet19"]}, ["resnet19", "'resnet18'"]),
        ({"recipe": ["ptq_int8"]}, ["fp32", "reference"]),
        ({"per_model": {"resnet18": []}}, ["per_model", "resnet18"]),
        ({"interleave": {"recipes": True, "model": "dscnn"}}, ["interleave.model", "dscnn"]),
        ({"per_recipe": {"ptq_int8": ["train.epochs=9"]}}, ["per_recipe", "share"]),
        ({"seed": ["x"]}, ["seed"]),
        ({"device": []}, ["device"]),
        ({"sizes": [4]}, ["sizes", "4"]),
        ({"sizes": [64, 64]}, ["sizes", "repeat"]),
        ({"sizes": [64], "size_models": ["resnet19"]}, ["resnet19", "'resnet18'"]),
        ({"sizes": [], "size_models": ["resnet18"]}, ["size_models", "sizes is empty"]),
    ],
)
def test_a_wrong_sweep_is_refused(tree: Path, change: dict[str, object], words: list[str]) -> None:
    file = tree / "sweeps" / "smoke.yaml"
    content = yaml.safe_load(file.read_text()) | change
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError) as caught:
        Plan.load((tree,), "smoke")
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"decide_on": ["host"]}, ["smoke.yaml", "decide_on", "host", "host_quick"]),
        (
            {"data": ["phantom3d_tiny"], "decide_on": ["host_quick"]},
            ["smoke.yaml", "decide_on", "phantom3d_tiny"],
        ),
    ],
)
def test_devices_that_cannot_decide_are_refused(
    tree: Path, changes: dict[str, object], words: list[str]
) -> None:
    deep = {"model": ["u_lite"], "recipe": ["fp32"], "overrides": ["train=smoke_segmentation3d"]}
    file = tree / "sweeps" / "smoke.yaml"
    content = yaml.safe_load(file.read_text())
    file.write_text(
        yaml.safe_dump(
            content
            | (deep if "data" in changes else {})
            | {"sizes": [], "size_models": []}
            | changes
        )
    )
    with pytest.raises(UserError, match=naming(*words)):
        Plan.load((tree,), "smoke")


def test_a_device_decides_whatever_it_is_timed_like(tree: Path) -> None:
    first = Plan.load((tree,), "smoke")
    slow = Plan.load((tree,), "smoke", ("profile.max_duration_s=9",))
    slices = [plan.decide(plan.candidates[0], "host_quick") for plan in (first, slow)]
    assert slices[0] == slices[1]
    assert {"name", "transport", "engine", "threads", "affinity", "deadline_s"} == {
        *slices[0]["device"]
    }


def test_untrained_networks_are_those_named_or_those_of_the_sweep(tree: Path) -> None:
    file = tree / "sweeps" / "smoke.yaml"
    content = yaml.safe_load(file.read_text()) | {"sizes": [], "size_models": []}
    file.write_text(yaml.safe_dump(content))
    assert Plan.load((tree,), "smoke").scaled == []
    file.write_text(yaml.safe_dump(content | {"sizes": [64, 96]}))
    assert Plan.load((tree,), "smoke").scaled == content["model"]
    file.write_text(yaml.safe_dump(content | {"sizes": [64], "size_models": ["resnet18"]}))
    plan = Plan.load((tree,), "smoke")
    assert plan.scaled == ["resnet18"]
    assert set(plan.scaling("resnet18")) == {"model", "compress", "export", "scaling"}
    profile = plan.scaling_profile("resnet18", "host")["profile"]
    assert profile["threads"] == [1]
    assert profile["throughput"]["batches"] == []


def test_settings_of_the_command_line() -> None:
    check_settings({"sweep": "default", "overrides": ["a=1"]})
    with pytest.raises(UserError, match=naming("sweeps", "'sweep'")):
        check_settings({"sweeps": "default"})
    with pytest.raises(UserError, match=naming("overrides", "'train.lr=1'")):
        check_settings({"overrides": "train.lr=1"})


def segmentation(tree: Path, **changes: object) -> Plan:
    """Load the smoke sweep, made one of segmentation."""
    file = tree / "sweeps" / "smoke.yaml"
    values = yaml.safe_load(file.read_text()) | {
        "data": ["phantom_masks"], "model": ["u_lite"], "recipe": ["fp32"], "sizes": [],
        "size_models": [], "overrides": ["train=smoke_segmentation2d"],
    }  # fmt: skip
    file.write_text(yaml.safe_dump(values | changes))
    return Plan.load((tree,), "smoke")


def test_each_task_has_its_own_slice_of_safety(tree: Path) -> None:
    plan = segmentation(tree)
    dense = plan.stage("assess", plan.candidates[0])["safety"]
    SafetyGroup.model_validate(dense)
    assert set(dense) == {*StudyConfig.model_fields, "segmentation"}
    assert "task" not in plan.pool("phantom_masks")  # the prepared data say it
    other = Plan.load((ROOT,), "smoke")
    flat = other.stage("assess", other.candidates[0])["safety"]
    assert set(flat) == {*StudyConfig.model_fields, "multiclass"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": ["dscnn"]}, ["sweeps/smoke.yaml", "'dscnn'", "dense", "false"]),
        (
            {"overrides": ["train=smoke"]},
            ["train.loss.name", "'logit_adjusted'", "dice_cross_entropy"],
        ),
        ({"data": ["phantom3d"]}, ["'phantom3d'", "train.patches", "null", "segmentation3d"]),
        (
            {"overrides": ["train=smoke_segmentation3d"]},
            ["'phantom_masks'", "train.patches", "segmentation2d"],
        ),
        (
            {"recipe": ["fp32", "safe_qat_int8"]},
            ["config/compress/safe_qat_int8.yaml", "steps[1]", "safety_constraint"],
        ),
        (
            {"overrides": ["train=smoke_segmentation2d", "data.task=detection"]},
            ["'detection'", "'task'", "config/data/phantom_masks.yaml"],
        ),
        (
            {"data": ["phantom3d"], "overrides": ["train=segmentation3d", "data.task=multiclass"]},
            ["config/data/phantom3d.yaml", "task", "'multiclass'"],
        ),
        (
            {"data": ["pairs"], "overrides": ["train=smoke", "data.task=multiclass"]},
            ["config/data/pairs.yaml", "'multiclass'", "source.kind", "'pairs'"],
        ),
        ({"recipe": ["fp32", "odd"]}, ["odd.yaml", "steps[0].finetune.loss.name", "'focal'"]),
        ({"recipe": ["fp32", "scaled"]}, ["scaled.yaml", "steps[0]", "temperature_scale"]),
    ],
)
def test_what_does_not_fit_together_is_refused(
    tree: Path, changes: dict[str, Any], words: list[str]
) -> None:
    odd = {"step": "magnitude_prune", "sparsity": 0.5, "finetune": {"loss": {"name": "focal"}}}
    for name, step in (("odd", odd), ("scaled", {"step": "temperature_scale"})):
        (tree / "compress" / f"{name}.yaml").write_text(yaml.safe_dump({"steps": [step]}))
    with pytest.raises(UserError, match=naming(*words)):
        segmentation(tree, **changes)


def test_a_data_set_has_overrides_of_its_own(tree: Path) -> None:
    plan = Plan.load((tree,), "segmentation_smoke")
    patches = {data: plan.train(data, "u_lite", 0)["train"]["patches"] for data in plan.sweep.data}
    assert patches["phantom_masks_tiny"] is None
    assert patches["phantom3d_tiny"]["size"] == [16, 16, 16]
    with pytest.raises(UserError, match=naming("per_data", "'phantom'", "'phantom_masks'")):
        segmentation(tree, per_data={"phantom": ["train.epochs=1"]})


def test_ceilings_are_shared_by_sweeps_that_differ_in_how_long_they_measure() -> None:
    shared = Plan.load((ROOT,), "safety").ceilings("host")
    assert shared["device"]["threads"] == [1]
    for sweep in ("segmentation2d", "latency"):
        assert any(
            o.startswith("profile.max_dur") for o in Plan.load((ROOT,), sweep).sweep.overrides
        )
        assert Plan.load((ROOT,), sweep).ceilings("host") == shared
    # Longer than twice the deadline of the file, which therefore must not be combined with it.
    overrides = ("profile.max_duration_s=90", "profile.deadline_s=400")
    plan = Plan.load((ROOT,), "safety", overrides)
    assert plan.ceilings("host") == shared
    assert plan.interleave("host")["profile"]["deadline_s"] == 400

    for override in ("profile.threads=[2]", "profile.explain.ceilings.duration_s=0.5"):
        assert Plan.load((ROOT,), "safety", (override,)).ceilings("host") != shared
