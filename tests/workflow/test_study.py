"""A study in a folder of its own: its config comes before the project's, and the clone is not touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from workspace import Workspace, copy_project

pytestmark = pytest.mark.workflow

FILES = {
    "sweeps/mine.yaml": """description: A study of mine
data: [mine]
model: [mine, resnet18]
recipe: [fp32, gentle]
device: [mine]
overrides: ["train=mine", "safety.multiclass.margins.recall=0.03"]
""",
    "data/mine.yaml": """defaults: [phantom_tiny, _self_]
source: {n_train: 64, n_test: 64}
calibration: {n: 32}
""",
    "model/mine.yaml": "architecture: resnet10t\nfamily: cnn\n",
    "train/mine.yaml": "epochs: 1\n",
    "compress/gentle.yaml": "steps: [{step: reparameterize}, {step: ptq_int8, observer: histogram}]\n",
    "profile/mine.yaml": "defaults: [host_quick, _self_]\nthreads: [2]\n",
}


@pytest.fixture
def study(tmp_path: Path) -> Workspace:
    for file, text in FILES.items():
        path = tmp_path / "my study" / "config" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Workspace(tmp_path / "my study")


def test_a_study_runs_beside_the_clone(study: Workspace, tmp_path: Path) -> None:
    clone = copy_project(tmp_path / "clone")
    before = {path: path.stat().st_mtime_ns for path in (clone.root / "config").rglob("*")}
    there = ("-s", str(clone.root / "Snakefile"), "--directory", str(study.root))
    mine = ("--config", "sweep=mine")
    planned = clone.planned(*there, *mine)
    assert (planned["train"], planned["compress"], planned["profile"]) == (2, 4, 4)

    clone.snakemake("results/mine/prepare/card.json", *there, *mine)
    made = (study.root / "results" / "mine" / "prepare" / "config.yaml").read_text()
    assert "n_train: 64" in made
    assert "near_bits: 2" in made, "slices are complete"
    left = clone.planned(*there, *mine)
    assert {rule: n for rule, n in planned.items() if left.get(rule) != n} == {"prepare": 1}
    study.edit("config/data/mine.yaml", "n_train: 64", "n_train: 65")
    assert clone.planned(*there, *mine) == planned

    study.edit("config/model/mine.yaml", "family:", "famly:")
    said = clone.snakemake("-n", *there, *mine, check=False).stdout
    assert "config/model/mine.yaml: key 'model.famly' is unknown" in said
    assert "Did you mean 'model.family'?" in said
    assert clone.planned(*there, "--config", "sweep=smoke")["train"] == 1
    after = {path: path.stat().st_mtime_ns for path in (clone.root / "config").rglob("*")}
    assert after == before
    assert not (clone.root / "results").exists()
