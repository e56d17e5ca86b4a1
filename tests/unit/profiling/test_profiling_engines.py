"""The engines on the device, and the file that carries the agent there."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from profiling_models import host_quick as quick
from refusals import naming
from shipped import shipped

from edgeward.core.errors import UserError
from edgeward.profiling import bundle, parity, stage
from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.measuring import Bench
from edgeward.profiling.transport import open_device
from edgeward.profiling.validate import problems

OPENVINO = {"name": "openvino", "device": "CPU", "precision": "f32"}


def ask(cfg: ProfileConfig, model: Path, task: str, **more: Any) -> dict[str, Any]:
    """Put one question about a model to the device of a configuration."""
    with open_device(cfg) as device:
        request = {"model": str(model), "sha256": stage.sha256(model), "threads": 1}
        return device.ask({**request, **stage.request_for(cfg, {}), "task": task, **more})


def test_same_sources_give_the_same_file(monkeypatch: pytest.MonkeyPatch) -> None:
    content, digest = bundle.agent_file("onnxruntime")
    for moment in ("UTC", "Pacific/Auckland"):
        monkeypatch.setenv("TZ", moment)
        bundle.agent_file.cache_clear()
        assert bundle.agent_file("onnxruntime") == (content, digest)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert names == sorted(names)
    agent = "edgeward/profiling/agent"
    engine = "edgeward/runtimes/onnxruntime/agent.py"
    assert {"__main__.py", f"{agent}/__main__.py", f"{agent}/timing.py", engine} <= set(names)
    assert not any("openvino" in name for name in names)


def test_cold_start_is_that_of_a_fresh_process(fp32_model: Path) -> None:
    answer = ask(quick(), fp32_model, "cold")
    assert answer["import_ns"] > answer["first_ns"] > 0
    assert answer["load_ns"] > 0


def test_affinity_binds_the_engine(fp32_model: Path) -> None:
    core = max(os.sched_getaffinity(0))
    answer = ask(quick(affinity=[core]), fp32_model, "describe", threads=0)
    assert answer["host"]["cores_usable"] == 1
    assert answer["threads"] == 1
    with pytest.raises(
        UserError, match=naming("[4095]", "affinity", "config/profile/host_quick.yaml")
    ):
        ask(quick(affinity=[4095]), fp32_model, "describe")


def test_device_describes_itself(fp32_model: Path) -> None:
    answer = ask(quick(), fp32_model, "describe")
    assert "CPUExecutionProvider" in answer["available"]
    assert set(answer["counters"]) == {"rapl", "ina3221", "odpm", "nvml"}
    for found in answer["counters"].values():
        assert isinstance(found, str | list)  # why not, or the domains
        assert found


def test_profile_has_throughput_cold_start_and_its_reasons(
    fp32_model: Path, tmp_path: Path
) -> None:
    cfg = quick(
        cold_starts=2,
        throughput={"batches": [4, 3], "threads": 1, "min_duration_s": 0.05},
        power={**quick().power.model_dump(), "counter": "ina3221"},
    )
    out = tmp_path / "host_quick.json"
    metrics = stage.run(cfg, model=fp32_model, out=out)
    profile = yaml.safe_load(out.read_text())
    assert [entry["batch"] for entry in profile["throughput"]] == [4, 3]
    for entry in profile["throughput"]:
        assert entry["parity"]["passed"]
        images = entry["n"] * entry["batch"] / entry["duration_s"]
        assert entry["images_per_s"]["estimate"] == pytest.approx(images, rel=0.2)
        assert entry["images_per_s"]["low"] < entry["images_per_s"]["estimate"]
    cold = profile["cold_start"]
    assert cold["n"] == cold["total_ms"]["n"] == 2
    assert cold["total_ms"]["max"] >= cold["load_ms"]["max"] + cold["first_ms"]["min"]
    assert metrics["cold_start_ms"] == cold["total_ms"]["median"]
    assert profile["energy"]["status"] == "not measured"
    assert "no ina3221" in profile["energy"]["reason"]


def test_engine_that_answers_something_else_is_invalid_at_once(fp32_model: Path) -> None:
    cfg = quick(attempts=3)
    inputs = parity.images(4, (3, 32, 32), (0, 255), 0)
    with open_device(cfg) as device:
        request = {"model": str(fp32_model), "sha256": stage.sha256(fp32_model)}
        bench = Bench(
            cfg=cfg,
            device=device,
            request={**request, **stage.request_for(cfg, {})},
            inputs=inputs,
            reference=parity.reference_logits(fp32_model, inputs) * 1.001,
            precision="fp32",
        )
        setting, _ = bench.setting(1)
    assert setting.verdict == "INVALID"
    assert not setting.parity.passed
    assert "largest logit error" in setting.reasons[0]
    assert setting.earlier_attempts == []


@pytest.fixture
def openvino() -> ProfileConfig:
    pytest.importorskip("openvino", reason="OpenVINO is not installed (edgeward[openvino])")
    return quick(engine=OPENVINO)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_openvino_computes_the_same_on_the_same_file(
    openvino: ProfileConfig, precision: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model: Path = request.getfixturevalue(f"{precision}_model")
    cfg = openvino.model_copy(
        update={"throughput": openvino.throughput.model_copy(update={"batches": [3]})}
    )
    out = tmp_path / "host_quick.json"
    stage.run(cfg, model=model, out=out)
    profile = yaml.safe_load(out.read_text())
    assert profile["engine"]["name"] == "openvino"
    assert profile["engine"]["providers"] == ["CPU"]
    for entry in (*profile["settings"], *profile["throughput"]):
        assert entry["parity"]["passed"], entry["parity"]
        assert entry["parity"]["agreement"] == 1
    executed = profile["operators"]["executed"]
    assert executed["Convolution"] == 3
    assert "Const" not in executed


def test_openvino_kernels_have_types_shapes_and_times(
    openvino: ProfileConfig, int8_model: Path
) -> None:
    kernels = ask(openvino, int8_model, "operators", runs=3)["kernels"]
    first = next(k for k in kernels if k["operator"] == "Convolution")
    assert [kind for kind, _ in first["inputs"][:2]] == ["uint8", "int8"]
    assert first["inputs"][0][1] == [1, 3, 32, 32]
    assert first["outputs"] == [["uint8", [1, 8, 16, 16]]]
    assert "I8" in first["provider"]
    assert all(np.isfinite(k["us"]) and k["us"] >= 0 for k in kernels)


def test_openvino_refuses_what_only_onnxruntime_has(
    openvino: ProfileConfig, fp32_model: Path, tmp_path: Path
) -> None:
    model = onnx.load(fp32_model)
    points = np.eye(model.graph.output[0].type.tensor_type.shape.dim[1].dim_value, dtype="float32")
    model.graph.initializer.append(onnx.numpy_helper.from_array(points, "points"))
    model.graph.node.append(
        onnx.helper.make_node("CDist", ["logits", "points"], ["far"], domain="com.microsoft")
    )
    model.graph.output[0].name = "far"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, tmp_path / "model.onnx")
    out = tmp_path / "host_quick.json"
    metrics = stage.run(openvino, model=tmp_path / "model.onnx", out=out)
    profile = yaml.safe_load(out.read_text())
    assert problems(profile) == []
    assert "CDist" in profile["refused"]
    assert profile["settings"] == profile["throughput"] == []
    assert profile["explanation"] is None
    assert profile["energy"] == {"status": "not measured", "reason": "the engine refuses the model"}
    assert metrics["refused"] == 1
    assert "latency_p50_ms" not in metrics


def test_openvino_device_that_is_not_there(openvino: ProfileConfig, fp32_model: Path) -> None:
    cfg = openvino.model_copy(
        update={"engine": openvino.engine.model_copy(update={"device": "NPU"})}
    )
    with pytest.raises(
        UserError, match=naming("NPU", "CPU", "engine", "config/profile/host_quick.yaml")
    ):
        ask(cfg, fp32_model, "cold")


def test_shipped_openvino_device_measures_as_the_host_does() -> None:
    host, other = (shipped("profile", name) for name in ("host", "host_openvino"))
    differing = {key for key in host if host[key] != other[key]}
    assert differing == {"name", "engine"}
