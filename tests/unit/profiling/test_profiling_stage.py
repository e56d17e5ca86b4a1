"""The stage with its agent in real processes, on small models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from profiling_models import MACS, PARAMETERS, SIZE, quantise, small_model
from refusals import naming
from shipped import shipped

from edgeward.core.errors import UserError
from edgeward.profiling import stage
from edgeward.profiling.bundle import agent_file
from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.transport import open_device

ENGINE = {
    "name": "onnxruntime",
    "providers": ["CPUExecutionProvider"],
    "provider_options": {},
    "spinning": True,
}


def quick(**changed: Any) -> ProfileConfig:
    values = shipped("profile", "host_quick")
    return ProfileConfig(**{**values, **changed})


def ask(request: dict[str, Any], cfg: ProfileConfig) -> dict[str, Any]:
    with open_device(cfg) as device:
        return device.ask(request)


Profiles = dict[str, tuple[dict[str, Any], dict[str, float]]]
"""Precision -> what the file holds, and the metrics."""


@pytest.fixture(scope="module")
def profiles(
    fp32_model: Path, int8_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Profiles:
    found = {}
    for name, model in (("fp32", fp32_model), ("int8", int8_model)):
        out = tmp_path_factory.mktemp(name) / "host_quick.json"
        metrics = stage.run(quick(threads=[1, "all"]), model=model, out=out)
        found[name] = (json.loads(out.read_text()), metrics)
    return found


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_profile_holds_what_the_contract_says(profiles: Profiles, precision: str) -> None:
    profile, _ = profiles[precision]
    assert profile["schema"] == "edgeward-profile/2"
    assert profile["device"] == "host_quick"
    assert profile["engine"]["name"] == "onnxruntime"
    assert profile["engine"]["providers"] == ["CPUExecutionProvider"]
    assert profile["model"]["macs"] == MACS
    assert profile["model"]["parameters"] == PARAMETERS
    assert profile["model"]["precision"] == precision
    assert profile["energy"]["status"] == "not measured"
    assert profile["energy"]["reason"]
    assert profile["config"] == quick(threads=[1, "all"]).model_dump()
    assert profile["settings"][0]["threads"] == 1
    for setting in profile["settings"]:
        assert setting["batch"] == 1
        assert setting["resolution"] == [SIZE, SIZE]
        assert setting["n"] >= 50
        assert setting["warmup"] >= 3
        assert setting["duration_s"] >= 0.2
        assert setting["load_ms"] > 0
        assert setting["peak_memory_mb"] > 0
        assert setting["verdict"] == ("INVALID" if setting["reasons"] else "VALID")
        latency = setting["latency_ms"]
        assert latency["min"] <= latency["p50"]["estimate"] <= latency["p90"]["estimate"]
        assert latency["mean"] * setting["n"] / 1000 <= setting["duration_s"]


def test_int8_share_is_none_in_fp32_and_all_when_quantised(profiles: Profiles) -> None:
    fp32, int8 = profiles["fp32"][0], profiles["int8"][0]
    assert fp32["int8_mac_share"] == 0
    assert int8["int8_mac_share"] == 1
    assert int8["operators"]["executed"]["QLinearConv"] == 3
    assert fp32["operators"]["executed"]["Conv"] == 3
    assert "Relu" not in fp32["operators"]["executed"]  # fused
    assert fp32["operators"]["exported"]["Relu"] == 3


def test_int8_share_of_a_partly_quantised_model(fp32_model: Path, tmp_path: Path) -> None:
    model = quantise(fp32_model, tmp_path / "part.onnx", ["Gemm"])
    out = tmp_path / "host_quick.json"
    metrics = stage.run(quick(), model=model, out=out)
    assert metrics["int8_mac_share"] == pytest.approx(16 * 5 / MACS)


def test_metrics_are_flat_numbers_of_the_first_setting(profiles: Profiles) -> None:
    profile, metrics = profiles["fp32"]
    first = profile["settings"][0]
    assert all(isinstance(v, int | float) for v in metrics.values())
    assert metrics["latency_p50_ms"] == first["latency_ms"]["p50"]["estimate"]
    assert metrics["latency_p90_ms_high"] == first["latency_ms"]["p90"]["high"]
    assert metrics["peak_memory_mb"] == first["peak_memory_mb"]
    assert metrics["macs"] == MACS
    for setting in profile["settings"][1:]:
        name = f"latency_p50_ms_{setting['threads']}threads"
        assert metrics[name] == setting["latency_ms"]["p50"]["estimate"]


def test_peak_memory_grows_with_what_the_model_needs(tmp_path: Path, profiles: Profiles) -> None:
    model = small_model()
    ballast = np.ones((1000, 10_000), dtype=np.float32)  # 40 MB that every inference touches
    model.graph.initializer.append(onnx.numpy_helper.from_array(ballast, "ballast"))
    model.graph.node.insert(
        len(model.graph.node) - 1,
        onnx.helper.make_node("ReduceSum", ["ballast"], ["sum"], keepdims=0),
    )
    model.graph.node[-1].output[0] = "plain"
    model.graph.node.append(onnx.helper.make_node("Add", ["plain", "sum"], ["logits"]))
    path = tmp_path / "heavy.onnx"
    onnx.save(model, path)
    out = tmp_path / "host_quick.json"
    heavy = stage.run(quick(), model=path, out=out)["peak_memory_mb"]
    assert heavy > profiles["fp32"][1]["peak_memory_mb"] + 35


def test_too_short_a_window_is_invalid_and_still_written(fp32_model: Path, tmp_path: Path) -> None:
    cfg = quick(min_count=1_000_000, min_duration_s=0.01, max_duration_s=0.05, attempts=2)
    out = tmp_path / "host_quick.json"
    metrics = stage.run(cfg, model=fp32_model, out=out)
    setting = json.loads(out.read_text())["settings"][0]
    assert metrics["valid"] == 0
    assert setting["verdict"] == "INVALID"
    assert any("of min_count = 1000000 samples" in reason for reason in setting["reasons"])
    assert len(setting["earlier_attempts"]) == 1


def test_missing_provider_is_an_error_not_a_fallback(fp32_model: Path, tmp_path: Path) -> None:
    engine = {**ENGINE, "providers": ["QNNExecutionProvider"]}
    out = tmp_path / "x.json"
    with pytest.raises(UserError) as caught:
        stage.run(quick(engine=engine), model=fp32_model, out=out)
    for part in ("QNNExecutionProvider", "CPUExecutionProvider", "config/profile/host_quick.yaml"):
        assert part in str(caught.value)
    assert not out.exists()


def test_model_that_the_engine_refuses(tmp_path: Path) -> None:
    model = small_model()
    model.opset_import.append(onnx.helper.make_opsetid("nobody.knows", 1))
    model.graph.node[1].domain = "nobody.knows"
    path = tmp_path / "strange.onnx"
    onnx.save(model, path)
    with pytest.raises(UserError, match=naming("strange.onnx", "'c2'")):
        stage.run(quick(), model=path, out=tmp_path / "x.json")
    with pytest.raises(
        UserError,
        match=naming("strange.onnx", "nobody.knows:Relu", "config/profile/host_quick.yaml"),
    ):
        ask(time_request(path), quick())


def test_missing_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=naming("model.onnx", "export")):
        stage.run(quick(), model=tmp_path / "model.onnx", out=tmp_path / "x.json")


def time_request(model: Path, **changed: Any) -> dict[str, Any]:
    cfg = quick()
    return {
        "task": "time",
        "model": str(model),
        "sha256": stage.sha256(model),
        "engine": ENGINE,
        "affinity": None,
        "threads": 1,
        "batch": 1,
        "seed": 0,
        "input_range": [0, 255],
        "warmup": cfg.warmup.model_dump(),
        "min_duration_s": 0.01,
        "min_count": 5,
        "max_duration_s": 0.1,
        "stop": None,
        "inputs": None,
        **changed,
    }


def test_agent_runs_alone_with_nothing_of_ours(fp32_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "agent"
    copy.write_bytes(agent_file("onnxruntime")[0])
    guard = (
        "import sys, runpy, zipimport\n"
        "class Guard:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'torch', 'scipy', 'onnx', 'pydantic', 'yaml'}:\n"
        "            raise ImportError('not on a device: ' + name)\n"
        "        if name == 'edgeward':\n"  # the one in the file, and no other
        f"            return zipimport.zipimporter({str(copy)!r}).find_spec(name)\n"
        "sys.meta_path.insert(0, Guard())\n"
        f"runpy.run_path({str(copy)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", guard],
        input=json.dumps(time_request(fp32_model)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    answer = json.loads(done.stdout)
    assert answer["ok"], answer
    assert done.returncode == 0
    assert len(answer["samples_ns"]) >= 5
    assert all(ns > 0 for ns in answer["samples_ns"])


def test_agent_refuses_another_file_than_the_one_meant(fp32_model: Path) -> None:
    with pytest.raises(UserError, match=naming("model.onnx", "SHA-256", "0" * 64)):
        ask(time_request(fp32_model, sha256="0" * 64), quick())


def test_deadline_ends_the_process(fp32_model: Path) -> None:
    cfg = quick(deadline_s=2.0)
    with pytest.raises(
        UserError, match=naming("2 s", "deadline_s", "config/profile/host_quick.yaml")
    ):
        ask(time_request(fp32_model, min_duration_s=600, max_duration_s=600), cfg)


def test_process_that_dies_is_reported(fp32_model: Path) -> None:
    with pytest.raises(UserError, match=naming("status 1", "KeyError")):
        ask({"task": "nap", "model": str(fp32_model)}, quick())


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    model = small_model()
    extra = onnx.helper.make_tensor_value_info("age", onnx.TensorProto.FLOAT, [1])
    model.graph.input.append(extra)
    path = tmp_path / "two.onnx"
    onnx.save(model, path)
    with pytest.raises(UserError, match=naming("two.onnx", "(batch, c, h, w)", "['image', 'age']")):
        stage.run(quick(), model=path, out=tmp_path / "x.json")
    with pytest.raises(UserError, match=naming("two.onnx", "float32", "age tensor(float) [1]")):
        ask(time_request(path), quick())
