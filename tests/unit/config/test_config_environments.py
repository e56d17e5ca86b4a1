"""The conda environments follow the one lock."""

from __future__ import annotations

import runpy
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[3]


def test_environments_are_up_to_date() -> None:
    written = runpy.run_path(str(PROJECT / "envs" / "build.py"))["environments"]()
    for name, text in written.items():
        assert (PROJECT / "envs" / name).read_text() == text, "run: python envs/build.py"


def test_runtime_environment_has_no_torch() -> None:
    pins = yaml.safe_load((PROJECT / "envs" / "runtime.yaml").read_text())["dependencies"][-1][
        "pip"
    ]
    packages = {pin.split("==")[0] for pin in pins}
    assert "onnxruntime" in packages
    assert not packages & {"torch", "timm", "pytorch-lightning", "mlflow"}


def test_lock_carries_hashes_and_names_no_index() -> None:
    lock = (PROJECT / "requirements.lock").read_text()
    assert lock.count("--hash=sha256:") > 1000
    assert "://" not in lock
