"""A study in a folder of its own: its config comes before the project's, and neither clone nor installed package is touched."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from given_models import colour_classifier
from guides import commands
from PIL import Image
from small_data import write_small_prepared
from workspace import PROJECT, Workspace, copy_project

from edgeward.data.store import open_prepared
from edgeward.pipeline.paths import Report, ResultPaths
from edgeward.records.safety import Verdict

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


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the built package, as `pip install` lays it down, without what it depends on."""
    at = tmp_path_factory.mktemp("installed")
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "build", "--quiet", "--wheel", "--out-dir", at / "dist", PROJECT], check=True)  # fmt: skip
    [wheel] = (at / "dist").glob("*.whl")
    there = ["--target", str(at / "site"), "--no-deps", str(wheel)]
    subprocess.run([*uv, "pip", "install", "--quiet", "--python", sys.executable, *there], check=True)  # fmt: skip
    return at / "site"


def command(site: Path, where: Path, *args: object) -> str:
    """Run a module of the installed package; return what it printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "EDGEWARD"))}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, args)],
        cwd=where,
        env=environment | {"PYTHONPATH": str(site)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def lesions(tmp_path: Path) -> Path:
    """Class folders of 240 images whose classes differ in colour."""
    data = open_prepared(write_small_prepared(tmp_path / "prepared"))
    for i, label in enumerate(data.labels):
        folder = tmp_path / "lesions" / ("keratosis", "melanoma", "nevus")[label]
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(data.images[i]).resize((64, 64), Image.Resampling.NEAREST)
        image.save(folder / f"{data.groups[i]}_{i}.png")
    return tmp_path / "lesions"


def shown(start: str) -> list[str]:
    """Return the words behind the name of the program in a command that a guide shows."""
    [words] = [w for where, w in commands() if where.startswith("docs/") and " ".join(w).startswith(start)]  # fmt: skip
    return words[1:]


@pytest.mark.usefixtures("lesions")
def test_the_installed_package_judges_two_files(installed: Path, tmp_path: Path) -> None:
    colour_classifier(tmp_path / "fp32.onnx", batch=1)
    colour_classifier(tmp_path / "int8.onnx", favour=0.01)
    said = command(
        installed, tmp_path, "edgeward.pipeline.cli", *shown("edgeward judge fp32.onnx int8.onnx"),
        "--group-pattern", r"^(\d+)_", "--device", "host_quick", "--cores", 2,
    )  # fmt: skip
    study = tmp_path / "judge_fp32"
    assert f"snakemake -s {study.name}/Snakefile" in said
    assert "Doubtful" not in said
    at = ResultPaths("lesions", "fp32", 0, "int8", root=study)
    verdict = Verdict.read(at.assess.verdict)
    assert verdict.verdict in ("pass", "inconclusive")
    assert "recall_melanoma" in {endpoint.metric for endpoint in verdict.endpoints}
    assert (study / Report("study").checklists / "lesions-fp32-s0-int8.md").is_file()
    assert not list(study.rglob("train")), "nothing is trained"
    assert "Nothing to be done" in command(installed, study, "snakemake", "-n")
    assert "2 candidates" in command(installed, study, "edgeward.pipeline.cli", "validate")


@pytest.mark.usefixtures("lesions")
def test_the_installed_package_begins_a_study(installed: Path, tmp_path: Path) -> None:
    command(installed, tmp_path, "edgeward.pipeline.cli", *shown("edgeward init study"))
    planned = command(installed, tmp_path / "study", "snakemake", "-n", "--quiet", "rules")
    for rule, n in {"prepare": 1, "train": 1, "compress": 2, "assess": 2, "report": 1}.items():
        assert re.search(rf"^{rule} +{n}$", planned, re.MULTILINE), planned
    made = command(installed, tmp_path / "study", "snakemake", "--cores", 1, "results/lesions/prepare/card.json")  # fmt: skip
    assert "240 images" in made


def test_the_workflow_is_a_module_of_another(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(
        "from edgeward.pipeline.home import SNAKEFILE\n"
        "module edgeward:\n    snakefile: str(SNAKEFILE)\n    config: {'sweep': 'smoke'}\n"
        "use rule * from edgeward\n"
    )
    planned = command(installed, tmp_path, "snakemake", "-n", "--quiet", "rules")
    assert re.search(r"^assess +3$", planned, re.MULTILINE), planned
