"""A runtime is one folder, wherever it lies: a toy on onnx's reference evaluator, with nothing edited for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
HELPERS = HERE.parents[1] / "helpers"
SOURCE = HERE.parents[2] / "src"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `toy_runtime_study` wrote."""
    folder = tmp_path_factory.mktemp("toy")
    paths = (SOURCE, HERE / "elsewhere", HELPERS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, str(HELPERS / "toy_runtime_study.py"), str(folder)]
    subprocess.run(command, env=environment, check=True)
    return folder


def content(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_its_config_is_known_and_its_files_open(results: Path) -> None:
    found = content(results / "found.json")
    assert found["engine"] == {"name": "toy"}
    assert found["shape"] == [3, 32, 32]


def test_it_is_profiled_and_computes_what_the_reference_computes(results: Path) -> None:
    profile = content(results / "own.json")
    assert profile["engine"]["name"] == "toy"
    assert profile["engine"]["providers"] == ["python"]
    (setting,) = profile["settings"]
    assert setting["n"] >= 2
    assert setting["parity"]["passed"]
    assert setting["parity"]["agreement"] == 1
    assert profile["operators"]["executed"] == profile["operators"]["exported"]
    assert profile["explanation"]["macs"] == profile["model"]["macs"]
    assert profile["explanation"]["layout_changes"] == 1


def test_it_says_what_it_cannot_run(results: Path) -> None:
    profile = content(results / "foreign.json")
    assert profile["refused"] == "no standard operators: QuickGelu"
    assert profile["settings"] == []
    assert profile["engine"]["providers"] == ["python"]


def test_rules_watch_the_parts_that_their_stages_load(results: Path) -> None:
    watched = content(results / "found.json")["watched"]
    assert watched["prepare"] == []
    assert watched["assess"] == ["__init__.py", "runtime.py"]
    parts = ["__init__.py", "agent.py", "config.py", "kernels.py", "runtime.py"]
    assert watched["profile"] == parts
