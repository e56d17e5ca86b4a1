"""Studies of one's own: what is written composes, and what cannot work is refused before anything is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from given_models import MEAN, STD, colour_classifier
from PIL import Image
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.models.config import WEIGHTS_ROOT
from edgeward.pipeline import cli, study
from edgeward.pipeline.compose import roots
from edgeward.pipeline.plan import Plan

TAKES = ("--mean", *map(str, MEAN), "--std", *map(str, STD))


def images(root: Path, *folders: str) -> Path:
    for folder in folders:
        (root / folder).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(root / folder / "a.png")
    return root


@pytest.mark.parametrize(
    ("folders", "layout", "split"),
    [
        (("ill", "well"), None, None),
        (("train/ill", "test/well"), "split_folders", {"kind": "given", "val": 0.2}),
        (("Training/ill", "Testing/well"), "split_folders", {"kind": "given", "val": 0.2}),
        (("test", "ill"), None, None),
    ],
)
def test_layouts_are_told_apart(
    tmp_path: Path, folders: tuple[str, ...], layout: str | None, split: dict[str, Any] | None
) -> None:
    found = study.look_at(images(tmp_path / "My Moles", *folders), None)
    assert (found.root, found.name) == (tmp_path, "My Moles")
    assert found.source.get("layout") == layout
    assert found.split == split


def test_a_table_may_say_the_split(tmp_path: Path) -> None:
    root = images(tmp_path / "moles", "ill")
    (root / "all.csv").write_text("path,label,split\nill/a.png,ill,test\n")
    found = study.look_at(root, root / "all.csv")
    assert found.source["csv"] == "all.csv"
    assert found.split == {"kind": "given", "val": 0.2}
    (tmp_path / "other.csv").write_text("path,label\n")
    with pytest.raises(UserError, match=naming("--labels", root)):
        study.look_at(root, tmp_path / "other.csv")


@pytest.mark.parametrize("given", [True, False])
def test_a_new_study_composes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool) -> None:
    found = study.look_at(images(tmp_path / "My Moles", "ill", "well"), None) if given else None
    study.new(tmp_path / "mine", found)
    monkeypatch.chdir(tmp_path / "mine")
    settings = yaml.safe_load(Path("study.yaml").read_text())
    plan = Plan.load(roots(), settings["sweep"])
    assert plan.sweep.data == ["my_moles" if given else "phantom_tiny"]
    assert cli.main(["validate"]) == 0
    Path("config/sweeps/broken.yaml").write_text("models: [a]\n")
    assert cli.main(["validate"]) == 2
    assert cli.main(["validate", "study"]) == 0


def judge(tmp_path: Path, *more: str) -> int:
    pair = (str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx"))
    return cli.main(["judge", *pair, "--data", str(tmp_path / "moles"), "--out", str(tmp_path / "out"), *more])  # fmt: skip


def test_a_pair_becomes_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[list[str]] = []

    def call(command: list[str]) -> int:
        ran.append(command)
        return 0

    monkeypatch.setattr(cli.subprocess, "call", call)
    images(tmp_path / "moles", "ill", "well", "worse")
    colour_classifier(tmp_path / "a.onnx")
    colour_classifier(tmp_path / "b.onnx")
    out = tmp_path / "out"
    assert judge(tmp_path, *TAKES, "--critical", "worse,ill", "--cores", "3") == 0
    [command] = ran
    assert command[-4:] == ["--directory", str(out), "--cores", "3"]
    assert " ".join(command[2:]) in capsys.readouterr().err
    monkeypatch.chdir(out)
    monkeypatch.setenv(WEIGHTS_ROOT, "files")
    plan = Plan.load(roots(), "study")
    run = plan.compose("moles", "a", "b")
    assert [c.recipe for c in plan.candidates] == ["as_given", "b"]
    assert run["data"]["critical"] == ["worse", "ill"]
    assert run["data"]["image_size"] == 32
    assert run["data"]["split"]["kind"] == "held_out"
    assert run["model"]["takes"]["mean"] == MEAN
    files = [out / "files" / name for name in ("a.onnx", "b.onnx")]
    assert [plan.finished(c) for c in plan.candidates] == [f.relative_to(out) for f in files]
    for file in files:
        assert file.read_bytes() == (tmp_path / file.name).read_bytes()
    before = [file.stat().st_mtime_ns for file in files]
    assert judge(tmp_path, *TAKES) == 0, "the same command goes on"
    assert [file.stat().st_mtime_ns for file in files] == before


@pytest.mark.parametrize(
    ("made", "more", "said"),
    [
        ({}, (), ("takes", "--mean")),
        ({"size": 64}, (*TAKES, "--image-size", "32"), ("64 x 64", "--image-size")),
        ({"size": "side"}, TAKES, ("--image-size",)),
        ({}, ("--mean", "0.5", "--std", "0.1", "0.2"), ("mean, std",)),
        ({}, (*TAKES, "--data", "nowhere"), ("--data", "nowhere")),
    ],
)
def test_what_cannot_be_judged_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], made: dict[str, Any], more: tuple[str, ...], said: tuple[str, ...]
) -> None:  # fmt: skip
    images(tmp_path / "moles", "ill", "well", "worse")
    colour_classifier(tmp_path / "a.onnx", **made)
    colour_classifier(tmp_path / "b.onnx", **made)
    assert judge(tmp_path, *more) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in said)
    assert not (tmp_path / "out").exists()


def test_nothing_that_is_no_study_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=naming(tmp_path)):
        study.new(tmp_path, None)
