"""model.pt2: round trip in a fresh process, and refusal of what could execute."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from compression_nets import EXAMPLE, Residual
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.models.program import export_program, load_program, save_program

READ = """
import sys, torch
from pathlib import Path
from edgeward.models.program import load_program
model = load_program(Path(sys.argv[1])).module()
with torch.no_grad():
    torch.save([model(torch.load(sys.argv[2])), model(torch.load(sys.argv[2])[:1])], sys.argv[3])
heavy = {"torchao", "neural_compressor", "timm", "pytorch_lightning", "onnx"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    save_program(path, export_program(Residual().eval(), EXAMPLE))
    return path


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """Copy an archive with the content of its members changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


def test_round_trip_needs_torch_only(saved: Path, tmp_path: Path) -> None:
    images = torch.rand(5, 3, 16, 16) * 255
    torch.save(images, tmp_path / "images.pt")
    subprocess.run(
        [sys.executable, "-c", READ, saved, tmp_path / "images.pt", tmp_path / "logits.pt"],
        check=True,
    )
    torch.manual_seed(0)
    with torch.no_grad():
        expected = Residual().eval()(images)
    five, one = torch.load(tmp_path / "logits.pt")
    torch.testing.assert_close(five, expected)
    torch.testing.assert_close(one, expected[:1])


def test_an_unchanged_copy_is_read(saved: Path, tmp_path: Path) -> None:
    copy = rewritten(saved, tmp_path / "copy.pt2", lambda _, content: content)
    assert load_program(copy).module()(EXAMPLE).shape == (2, 3)


def test_pickled_tensors_are_refused(saved: Path, tmp_path: Path) -> None:
    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("weights_config.json"):
            return content
        config = json.loads(content)
        next(iter(config["config"].values()))["use_pickle"] = True
        return json.dumps(config).encode()

    with pytest.raises(
        UserError, match=naming("bad.pt2", "data/weights/model_weights_config.json")
    ):
        load_program(rewritten(saved, tmp_path / "bad.pt2", change))


def test_sample_inputs_are_refused(saved: Path, tmp_path: Path) -> None:
    def change(name: str, content: bytes) -> bytes:
        return b"cos\nsystem\n" if "sample_inputs" in name else content

    with pytest.raises(UserError, match=naming("bad.pt2", "data/sample_inputs/model.pt")):
        load_program(rewritten(saved, tmp_path / "bad.pt2", change))


@pytest.mark.parametrize(
    "code", ["__import__('os').system('true')", "exec('1')", "().__class__", "s0.args"]
)
def test_sizes_that_are_code_are_refused(saved: Path, tmp_path: Path, code: str) -> None:
    def change(name: str, content: bytes) -> bytes:
        if "/models/" not in name:
            return content
        text = content.decode()
        start = text.index('"expr_str": "') + len('"expr_str": "')
        return (text[:start] + code + text[text.index('"', start) :]).encode()

    with pytest.raises(UserError, match=naming("bad.pt2", f"'{code}'")):
        load_program(rewritten(saved, tmp_path / "bad.pt2", change))


def test_objects_among_the_constants_are_refused(saved: Path, tmp_path: Path) -> None:
    bad = rewritten(saved, tmp_path / "bad.pt2", lambda _, content: content)
    with zipfile.ZipFile(bad, "a") as archive:
        archive.writestr("archive/data/constants/opaque_obj_0", b"")
    with pytest.raises(UserError, match=naming("bad.pt2", "data/constants/opaque_obj_0")):
        load_program(bad)


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=naming("model.pt2", "compress stage")):
        load_program(tmp_path / "model.pt2")
    (tmp_path / "model.pt2").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(UserError, match=naming("model.pt2", "readable")):
        load_program(tmp_path / "model.pt2")
