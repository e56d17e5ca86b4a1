"""This machine as a device, as it is and under an emulator, and the command that tries a device."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from profiling_devices import quick

from edgeward.core.errors import UserError
from edgeward.pipeline import check_device
from edgeward.pipeline.compose import compose
from edgeward.profiling import stage
from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.transport import open_device
from edgeward.profiling.transport.config import EmulatedTransport

ROOT = Path(__file__).parents[3]


def emulated() -> ProfileConfig:
    """Return the shipped emulated device, with paths that do not depend on the working directory."""
    values = compose((ROOT / "config",), {"device": "arm64_emulated"})["profile"]
    for key in ("root", "python", "packages"):
        values["transport"][key] = str(ROOT / values["transport"][key])
    return ProfileConfig(**values)


@pytest.fixture(scope="module")
def arm64() -> ProfileConfig:
    cfg = emulated()
    assert isinstance(cfg.transport, EmulatedTransport)
    if not shutil.which(cfg.transport.emulator) or not Path(cfg.transport.packages).is_dir():
        pytest.skip("no emulated device; tools/arm64_device.sh sets it up")
    return cfg


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_another_architecture_gives_the_right_answers_and_no_times(
    arm64: ProfileConfig, precision: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    out = tmp_path / "arm64_emulated.json"
    metrics = stage.run(arm64, model=request.getfixturevalue(f"{precision}_model"), out=out)
    profile = json.loads(out.read_text())
    assert profile["emulated"] is True
    assert profile["host"]["machine"] == "aarch64"
    assert "asimddp" in profile["host"]["instructions"]
    for setting in profile["settings"]:
        assert setting["verdict"] == "INVALID"
        assert setting["reasons"][0] == "emulated: timings say nothing about a device"
        assert setting["parity"]["passed"]
    assert metrics["valid"] == 0
    kernel = {"fp32": "FusedConv", "int8": "QLinearConv"}[precision]  # x86 would run fp32 in Conv
    assert profile["operators"]["executed"][kernel] == 3
    assert profile["energy"]["status"] == "not measured"


def stand_in(folder: Path, **changed: Any) -> dict[str, Any]:
    """Return an emulated device whose emulator drops its options and runs this interpreter."""
    program = folder / "emulator"
    program.write_text('#!/bin/sh\nshift 4\nexec "$@"\n')
    program.chmod(0o755)
    return {
        "kind": "emulated",
        "emulator": str(program),
        "cpu": "any",
        "root": str(folder),
        "python": sys.executable,
        "packages": str(folder),
        "machine": os.uname().machine,
        **changed,
    }


def test_an_emulated_device_says_so(tmp_path: Path) -> None:
    with open_device(quick(stand_in(tmp_path))) as device:
        assert device.emulated


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"emulator": "qemu-nothing"},
            "`transport.emulator` = qemu-nothing is not on this machine",
        ),
        ({"root": "no/such/root"}, "`transport.root` = no/such/root does not exist"),
        ({"packages": "no/such/site"}, "`transport.packages` = no/such/site does not exist"),
        ({"machine": "riscv64"}, "should run on riscv64, but said"),
        ({"python": "/bin/false"}, "said: nothing (status 1)"),
    ],
)
def test_what_is_missing_of_an_emulated_device(
    tmp_path: Path, changed: dict[str, str], told: str
) -> None:
    with pytest.raises(UserError) as caught, open_device(quick(stand_in(tmp_path, **changed))):
        pass
    assert told in str(caught.value)
    assert "tools/arm64_device.sh" in str(caught.value)


def test_check_prints_what_the_device_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert check_device.main(["host_quick"]) == 0
    out = capsys.readouterr().out
    assert f"machine        {os.uname().machine}, " in out
    assert "CPUExecutionProvider" in out
    assert "engine         onnxruntime " in out


def test_check_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert check_device.main(["hosst"]) == 1
    assert "Did you mean 'host'?" in capsys.readouterr().err
    override = "profile.engine.providers=[QNNExecutionProvider]"
    assert check_device.main(["host_quick", override]) == 1
    assert "QNNExecutionProvider" in capsys.readouterr().err
