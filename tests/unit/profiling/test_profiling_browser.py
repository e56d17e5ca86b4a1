"""Chromium as a device: the whole stage, and what is left of it."""

from __future__ import annotations

import json
import stat
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
import pytest
from browsers import needs_chromium, needs_engine, quick_page
from profiling_models import SIZE, host_quick
from pydantic import ValidationError
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.profiling import stage
from edgeward.profiling.deciding import DeviceSession
from edgeward.profiling.transport import open_device
from edgeward.profiling.transport.remote_session import PREFIX
from edgeward.profiling.validate import problems


def left() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob(PREFIX + "*"))


def browsers() -> set[int]:
    mine = psutil.Process().children(recursive=True)
    return {p.pid for p in mine if p.status() != psutil.STATUS_ZOMBIE}


@needs_chromium
@needs_engine
def test_a_profile_in_chromium(int8_model: Path, tmp_path: Path) -> None:
    cfg = quick_page(
        "browser",
        sustained={"duration_s": 1.2, "edge_s": 0.4, "window_s": 0.1},
        throughput={"batches": [4]},
        cold_starts=1,
        parity={"images": 10},
    )
    before, running = left(), browsers()
    metrics = stage.run(cfg, model=int8_model, out=tmp_path / "browser.json")
    stage.run(host_quick(), model=int8_model, out=tmp_path / "host.json")
    assert left() == before
    assert browsers() == running
    found, host = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("browser", "host")
    )
    assert problems(found) == []
    assert found["engine"]["name"] == "onnxruntime_web"
    assert found["host"]["browser"]["isolated"]
    assert found["host"]["python"] is None
    assert found["agent"]["sha256"] != host["agent"]["sha256"]
    # The same engine's code: the same kernels on the same tensors, whatever compiled it.
    assert found["operators"] == host["operators"]
    assert found["explanation"]["bytes_moved"] == host["explanation"]["bytes_moved"]
    assert found["int8_mac_share"] == host["int8_mac_share"] == metrics["int8_mac_share"] == 1
    (setting,) = found["settings"]
    assert setting["threads"] == 1
    assert setting["parity"]["passed"]
    assert setting["n"] >= 50
    conditions = setting["conditions"]
    assert conditions["step_ns"] <= 10_000  # 5 us where the page is cross-origin isolated
    assert 0 < conditions["own_cpu_s"] < 60
    assert conditions["hidden"] == 0
    assert found["throughput"][0]["n"] >= 3
    assert found["cold_start"]["import_ms"]["median"] > 0
    assert len(found["sustained"]["windows"]) >= 2
    assert found["sustained"]["windows"][0]["other_cores"] is not None
    assert found["energy"]["reason"] == "power.counter is none in config/profile/browser.yaml"


@needs_chromium
@needs_engine
def test_the_page_decides_as_the_engine_here_does(fp32_model: Path, foreign_model: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 3, SIZE, SIZE)).astype(np.float32)
    cfg = quick_page("browser", threads=["all"])
    with open_device(cfg) as device:
        session = DeviceSession(cfg, device, fp32_model)
        found = session.run(images)
        assert session.engine[0] == "onnxruntime_web"
        with pytest.raises(
            UserError, match=naming("NoSuchOperator", "config/profile/browser.yaml")
        ):
            DeviceSession(cfg, device, foreign_model).run(images)
    engine = onnxruntime.InferenceSession(fp32_model, providers=["CPUExecutionProvider"])
    expected = engine.run(None, {"image": images})[0]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.std(expected))


@pytest.mark.parametrize(
    ("script", "said"), [("echo no display >&2; exit 3", "no display"), ("exec sleep 60", "did not start within")]
)  # fmt: skip
def test_a_browser_that_does_not_start(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Path
) -> None:
    program = tmp_path / "chromium"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    cfg = with_package(quick_page("browser", program=str(program), start_timeout_s=1), engine)
    before, running = left(), browsers()
    with pytest.raises(UserError, match=naming("browser", said)), open_device(cfg) as device:
        device.ask({"task": "describe", "engine": cfg.engine.model_dump(), "threads": 1})
    assert left() == before
    assert browsers() == running


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A package whose files are there, for what ends before it is loaded."""
    dist = tmp_path / "package" / "dist"
    dist.mkdir(parents=True)
    for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"):
        (dist / name).touch()
    return dist.parent


def with_package(cfg: Any, package: Path) -> Any:
    return cfg.model_copy(
        update={"engine": cfg.engine.model_copy(update={"package": str(package)})}
    )


def test_what_is_missing_is_said(tmp_path: Path, engine: Path) -> None:
    cfg = with_package(quick_page("browser", program="no-such-browser"), engine)
    with pytest.raises(UserError, match=naming("transport.program", "no-such-browser")):
        open_device(cfg).__enter__()
    cfg = with_package(quick_page("browser", program="true"), tmp_path)
    with pytest.raises(UserError, match=naming("tools/onnxruntime_web.sh", tmp_path)):
        open_device(cfg).__enter__()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"transport": {"kind": "host"}}, "engine.name onnxruntime_web runs in a page"),
        ({"engine": {"name": "onnxruntime"}}, "transport.kind browser leads to a page"),
        ({"affinity": [0]}, "a page cannot choose its cores"),
    ],
)
def test_what_does_not_fit_together_is_refused(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        quick_page("browser", **changed)
