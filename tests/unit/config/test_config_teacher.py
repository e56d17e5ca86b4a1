"""A recipe that distils names a model, which the sweep then trains, too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.pipeline.plan import Plan

ROOT = Path(__file__).resolve().parents[3] / "config"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the config tree whose smoke sweep distils."""
    root = shutil.copytree(ROOT, tmp_path / "config")
    change(root, recipe=["fp32", "prune_distil_qat"])
    return root


def change(root: Path, **values: object) -> None:
    file = root / "sweeps" / "smoke.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | values))


def test_the_teacher_is_trained_but_not_judged(tree: Path) -> None:
    change(tree, per_model={"resnet18": ["train.epochs=7"]})
    plan = Plan.load((tree,), "smoke")
    assert plan.teachers == ["resnet18"]
    assert plan.taught_by("phantom_tiny", "mobilenetv3_small", "prune_distil_qat") == ["resnet18"]
    assert plan.taught_by("phantom_tiny", "mobilenetv3_small", "fp32") == []
    assert {c.model for c in plan.candidates} == {"mobilenetv3_small"}
    assert plan.train("phantom_tiny", "resnet18", 0)["train"]["epochs"] == 7
    assert plan.train("phantom_tiny", "mobilenetv3_small", 0)["train"]["epochs"] != 7


def test_an_override_chooses_another_teacher(tree: Path) -> None:
    override = "compress.steps.2.teacher=mobileone_s4"
    change(tree, per_recipe={"prune_distil_qat": [override]})
    assert Plan.load((tree,), "smoke").teachers == ["mobileone_s4"]


def test_an_unknown_teacher_is_refused(tree: Path) -> None:
    change(tree, per_recipe={"prune_distil_qat": ["compress.steps.2.teacher=resnet19"]})
    with pytest.raises(UserError, match=naming("teacher", "'resnet19'", "'resnet18'")):
        Plan.load((tree,), "smoke")


def test_without_such_a_recipe_its_overrides_are_stray(tree: Path) -> None:
    change(tree, recipe=["fp32"], per_model={"resnet18": []})
    with pytest.raises(UserError, match=naming("per_model", "'resnet18'")):
        Plan.load((tree,), "smoke")
