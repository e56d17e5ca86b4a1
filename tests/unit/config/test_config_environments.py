"""The conda environments follow the one lock."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
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


@pytest.mark.parametrize(
    "lock", ["requirements.lock", "docs/requirements.lock", "envs/litert.lock"]
)
def test_locks_carry_hashes_and_name_no_index(lock: str) -> None:
    text = (PROJECT / lock).read_text()
    assert text.count("--hash=sha256:") > 2 * text.count("==") > 50
    assert "://" not in text


def test_the_docs_need_nothing_that_the_library_needs() -> None:
    text = (PROJECT / "docs" / "requirements.lock").read_text()
    assert "sphinx==" in text
    assert not [heavy for heavy in ("torch", "onnxruntime", "mlflow") if f"\n{heavy}==" in text]
