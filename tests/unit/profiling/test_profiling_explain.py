"""Kernels, roofline and signatures: closed forms, and the engine's own kernels of small graphs."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from profiling_models import MACS, SIZE
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.core.plugins import load, names
from edgeward.profiling.agent.operators import operators
from edgeward.profiling.explain import signatures
from edgeward.profiling.explain.config import CeilingsConfig, ExplainConfig, SignaturesConfig
from edgeward.profiling.explain.explanation import explain, fused_share
from edgeward.profiling.explain.kernels import (
    Kernel,
    int8_macs,
    kernel_macs,
    read_kernels,
    tensor_bytes,
)
from edgeward.profiling.explain.roofline import Roof, bound
from edgeward.records.explanation import CeilingsUsed, SignatureRow
from edgeward.runtimes.agent import AgentError
from edgeward.runtimes.macs import linear_attention_macs
from edgeward.runtimes.onnxruntime import agent as onnxruntime_agent
from edgeward.runtimes.onnxruntime.graph import read_graph
from edgeward.runtimes.onnxruntime.kernels import NAMES
from edgeward.runtimes.openvino.kernels import NAMES as OPENVINO

LIMITS = SignaturesConfig(
    memory_bound_share=0.5, layout_share=0.1, layout_per_product=1.0, float_share=0.2,
    recurrence_share=0.2, scalar_share=0.1, scalar_factor=5.0, rank_gap=0.25,
)  # fmt: skip
CONFIG = ExplainConfig(
    ceilings=CeilingsConfig(copy_kb=[100, 1000], duration_s=0.1), signatures=LIMITS
)
CEILINGS = Roof(((1e5, 40e9), (1e7, 10e9)), 80e9, 320e9)
RECORD = CeilingsUsed.model_validate(
    {
        "threads": 1,
        "copy": [{"bytes": 10**7, "gb_per_s": 10.0}, {"bytes": 10**5, "gb_per_s": 40.0}],
        "fp32_gmac_per_s": 80.0,
        "int8_gmac_per_s": 320.0,
    }
)


def kernel(operator: str, us: float = 1.0, **changed: Any) -> Kernel:
    values: dict[str, Any] = {
        "name": operator, "operator": operator, "kind": NAMES.kind(operator), "us": us, "calls": 1, "inside": None, "macs": 0,
        "bytes_moved": 0, "weight_bytes": 0, "integer": False, "quantised": False,
    }  # fmt: skip
    return Kernel(**{**values, **changed})


def floats(*shape: int) -> list[Any]:
    return ["float", list(shape)]


@pytest.mark.parametrize(
    ("operator", "inputs", "outputs", "macs"),
    [
        ("Conv", [floats(1, 3, 8, 8), floats(16, 3, 3, 3)], [floats(1, 16, 8, 8)], 8 * 8 * 16 * 27),
        ("Conv", [floats(1, 16, 8, 8), floats(16, 1, 3, 3)], [floats(1, 16, 8, 8)], 8 * 8 * 16 * 9),
        (
            "QLinearConv",  # channels last
            [["uint8", [1, 8, 8, 3]], floats(), ["uint8", []], ["int8", [16, 3, 3, 3]]],
            [["uint8", [1, 8, 8, 16]]],
            8 * 8 * 16 * 27,
        ),
        ("ConvTranspose", [floats(2, 3, 4, 4), floats(3, 6, 2, 2)], [floats(2, 6, 8, 8)], 2304),
        ("Gemm", [floats(2, 64), floats(10, 64)], [floats(2, 10)], 2 * 10 * 64),
        ("Gemm", [floats(64, 2), floats(64, 10)], [floats(2, 10)], 2 * 10 * 64),  # transA
        ("QGemm", [["uint8", [1, 16]], floats()], [["uint8", [1, 5]]], 5 * 16),
        ("MatMul", [floats(2, 7, 4), floats(4, 9)], [floats(2, 7, 9)], 2 * 7 * 9 * 4),
        ("FusedMatMul", [floats(2, 4, 7), floats(2, 4, 9)], [floats(2, 7, 9)], 2 * 7 * 9 * 4),
        ("FusedMatMul", [floats(2, 7, 7), floats(2, 7, 9)], [floats(2, 7, 9)], 2 * 7 * 9 * 7),
        ("MatMul", [floats(4), floats(4, 9)], [floats(9)], 36),
        ("MatMul", [floats(7, 4), floats(4)], [floats(7)], 28),
        ("Softmax", [floats(2, 7)], [floats(2, 7)], 0),
        (  # OpenVINO: depthwise weights are (groups, 1, 1, k, k)
            "Convolution", [floats(1, 16, 8, 8), floats(16, 1, 1, 3, 3)], [floats(1, 16, 8, 8)],
            8 * 8 * 16 * 9,
        ),
        ("FullyConnected", [floats(4, 9, 5), floats(7, 5)], [floats(4, 9, 7)], 4 * 9 * 7 * 5),
        ("Einsum", [floats(2, 7)], [floats(2, 7)], None),
        ("Conv", [], [], None),  # an engine that tells no tensors of it
        ("Softmax", [], [], 0),
    ],
)  # fmt: skip
def test_macs_of_a_kernel(operator: str, inputs: Any, outputs: Any, macs: int | None) -> None:
    engine = OPENVINO if operator in {"Convolution", "FullyConnected"} else NAMES
    assert kernel_macs(operator, inputs, outputs, engine) == macs


@pytest.mark.parametrize("engine", names("edgeward.runtimes"))
def test_an_operator_is_of_one_kind(engine: str) -> None:
    table = load("edgeward.runtimes", engine, "kernels", "").NAMES
    kinds = [table.layout, table.to_float, table.conversions, table.loops, table.recurrences]
    assert sum(map(len, kinds)) == len(set().union(*kinds))
    counted = [
        set(table.convolutions),
        table.transposed,
        table.products,
        table.gemms,
        table.unknown,
    ]
    assert sum(map(len, counted)) == len(set().union(*counted))


def test_bytes_of_a_kernel() -> None:
    image, weight = floats(1, 3, 8, 8), floats(16, 3, 3, 3)
    out = floats(1, 16, 8, 8)
    assert tensor_bytes("Conv", [image, weight], [out], NAMES) == 4 * (3 * 64 + 432 + 16 * 64)
    assert tensor_bytes("Add", [["uint8", [5]], ["uint8", [5]]], [["uint8", [5]]], NAMES) == 15
    assert tensor_bytes("Reshape", [image, ["int64", [2]]], [floats(3, 64)], NAMES) == 0
    # A slice touches no more of its input than it hands on.
    assert (
        tensor_bytes("Slice", [image, ["int64", [1]]], [floats(1, 1, 8, 8)], NAMES) == 2 * 256 + 8
    )
    with pytest.raises(UserError, match=naming("'string'")):
        tensor_bytes("Add", [["string", [2]]], [floats(2)], NAMES)


@given(st.floats(1, 1e12), st.floats(1, 1e12))
def test_bandwidth_falls_from_cache_to_memory(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert 40e9 >= CEILINGS.bandwidth(low) >= CEILINGS.bandwidth(high) >= 10e9
    assert CEILINGS.bandwidth(1e6) == pytest.approx(20e9)  # halfway in the logarithm


@given(st.integers(0, 10**9), st.integers(0, 10**8), st.booleans(), st.integers(1, 50))
def test_roofline_is_the_slower_of_the_two(
    macs: int, moved: int, integer: bool, calls: int
) -> None:
    one = kernel("Conv", macs=macs, bytes_moved=moved * calls, integer=integer, calls=calls)
    found = bound(one, CEILINGS)
    compute = macs / (320e3 if integer else 80e3)
    memory = 1e6 * calls * moved / CEILINGS.bandwidth(moved)
    assert found.us == pytest.approx(max(compute, memory))
    assert found.by == ("compute" if compute > memory else "memory")


def test_fused_share() -> None:
    exported = {"Conv": 4, "Relu": 4, "Constant": 9, "Transpose": 2}
    assert fused_share(exported, {"Conv": 4, "Transpose": 1, "ReorderOutput": 1}) == 0.5
    assert fused_share({"Constant": 1}, {}) is None


def by_name(found: list[SignatureRow]) -> dict[str, dict[str, Any]]:
    return {entry.name: entry.content() for entry in found}


def found(kernels: list[Kernel], precision: str = "fp32") -> dict[str, dict[str, Any]]:
    bounds = [bound(k, CEILINGS) for k in kernels]
    return by_name(signatures.of_model(kernels, bounds, precision, NAMES, LIMITS))


def test_memory_bound_counts_time_not_kernels() -> None:
    fast = kernel("Conv", 40, macs=8_000_000, bytes_moved=1000)
    slow = kernel("Mul", 60, bytes_moved=10**6)
    seen = found([fast, slow])["memory_bound"]
    assert seen["present"] is True
    assert seen["evidence"]["share"] == pytest.approx(0.6)
    assert seen["evidence"]["operators"] == ["Mul"]
    assert seen["advice"]
    assert (
        found([kernel("Conv", 99, macs=10**7, bytes_moved=9), slow])["memory_bound"]["present"]
        is False
    )


def test_layout_changes() -> None:
    product = kernel("MatMul", 95, macs=10**6)
    assert found([product, kernel("Transpose", 5)])["fusion_broken"]["present"] is True  # 1 for 1
    assert found([product, product, kernel("Transpose", 5)])["fusion_broken"]["present"] is False
    costly = found([product, product, kernel("ReorderInput", 25)])["fusion_broken"]
    assert costly["present"] is True
    assert costly["evidence"]["changes"] == 1


def test_float_islands_only_in_int8_graphs() -> None:
    kernels = [
        kernel("QuantizeLinear", 5),
        kernel("QLinearConv", 60, macs=10**6, integer=True, quantised=True),
        kernel("DequantizeLinear", 5),
        kernel("Gelu", 20),
        kernel("QuantizeLinear", 5),
        kernel("DequantizeLinear", 5),
    ]
    seen = found(kernels, "int8")["float_islands"]
    assert seen["present"] is True
    assert seen["evidence"]["islands"] == 1
    assert seen["evidence"]["share"] == pytest.approx(0.4)
    assert seen["evidence"]["operators"] == ["Gelu"]
    assert found(kernels)["float_islands"]["present"] is None
    whole = [
        kernels[0],
        kernel("QLinearConv", 300, macs=10**6, integer=True, quantised=True),
        kernels[2],
    ]
    assert found(whole, "int8")["float_islands"]["present"] is False


def test_recurrence_counts_the_loop_once() -> None:
    loop = kernel("Scan", 60)
    body = kernel("Mul", 50, calls=196, inside="Scan")
    seen = found([loop, body, kernel("Conv", 40, macs=10**6)])["recurrence_per_token"]
    assert seen["present"] is True
    assert seen["evidence"]["share"] == pytest.approx(0.6)
    assert seen["evidence"]["most_calls"] == 196
    fused = found([kernel("LinearAttention", 60, macs=10**6)])["recurrence_per_token"]
    assert fused["present"] is False
    assert fused["evidence"]["fused_recurrences"] == 1


def test_scalar_kernels_are_those_far_from_the_memory() -> None:
    # 400 kB at 28 GB/s take 14 us.
    near = kernel("Relu", 30, bytes_moved=400_000)
    far = kernel("Softplus", 300, bytes_moved=400_000)
    seen = found([near, far])["scalar_kernels"]
    assert seen["present"] is True
    assert seen["evidence"]["operators"] == ["Softplus"]
    assert found([near, near])["scalar_kernels"]["present"] is False


def test_without_ceilings_nothing_is_said_about_them() -> None:
    seen = by_name(signatures.of_model([kernel("Conv", macs=5)], None, "fp32", NAMES, LIMITS))
    assert seen["memory_bound"]["present"] is seen["scalar_kernels"]["present"] is None
    assert seen["fusion_broken"]["present"] is False


def answer(model: Path) -> dict[str, Any]:
    return operators(
        {
            "model": str(model), "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
            "engine": {"name": "onnxruntime", "providers": ["CPUExecutionProvider"],
                       "provider_options": {}, "spinning": True},
            "affinity": None, "threads": 1, "batch": 1, "seed": 0, "input_range": [0, 255], "runs": 2,
        }
    )  # fmt: skip


def test_kernels_of_a_model_do_its_work(fp32_model: Path, int8_model: Path) -> None:
    facts = read_graph(int8_model, 1)
    kernels = read_kernels(answer(int8_model)["kernels"], facts.node_macs, NAMES)
    assert int8_macs(kernels) == MACS
    assert all(k.us > 0 and k.calls == 1 and k.inside is None for k in kernels)
    first = next(k for k in kernels if k.operator == "QLinearConv")
    # image and output as bytes, weights as bytes, bias as int32, scales and zero points
    extra = first.bytes_moved - (3 * SIZE**2 + 8 * (SIZE // 2) ** 2 + 8 * 27)
    assert 8 * 4 <= extra <= 8 * 4 + 8 * 5 + 16
    assert first.weight_bytes is not None
    assert first.weight_bytes >= 8 * 27
    record = explain(
        answer(fp32_model), read_graph(fp32_model, 1), NAMES, 1.0, RECORD, CONFIG
    ).content()
    # The engine pads channels to its blocks, so it may execute more than the model holds.
    assert record["macs"] >= MACS
    assert record["int8_mac_share"] == 0
    assert record["roofline_ms"] == pytest.approx(
        sum(k["roofline_us"] for k in record["kernels"]) / 1e3
    )
    assert record["kernels_ms"] == pytest.approx(sum(k["us"] for k in record["kernels"]) / 1e3)
    assert record["bytes_moved"] == sum(o["bytes_moved"] for o in record["operators"])
    assert sum(o["share"] for o in record["operators"]) == pytest.approx(1)
    assert Counter(k["operator"] for k in record["kernels"]) == {
        o["operator"]: o["kernels"] for o in record["operators"]
    }
    assert record["ceilings"] == RECORD.content()


def scan_model(path: Path, steps: int = 12) -> Path:
    """An image whose columns are summed up one by one in a Scan, then a product."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["state", "row"], ["sum"], name="body_add"),
            helper.make_node("Identity", ["sum"], ["out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [5]),
            helper.make_tensor_value_info("row", TensorProto.FLOAT, [5]),
        ],
        [
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, [5]),
            helper.make_tensor_value_info("out", TensorProto.FLOAT, [5]),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["image", "to"], ["rows"]),
            helper.make_node(
                "Scan", ["zero", "rows"], ["last", "all"], body=body, num_scan_inputs=1, name="loop"
            ),
            helper.make_node("MatMul", ["all", "w"], ["logits"]),
        ],
        "scan",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, steps, 5])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [steps, 3])],
        [
            numpy_helper.from_array(np.array([steps, 5], np.int64), "to"),
            numpy_helper.from_array(np.zeros(5, np.float32), "zero"),
            numpy_helper.from_array(np.ones((5, 3), np.float32), "w"),
        ],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path
    )
    return path


def test_the_body_of_a_scan_is_inside_it_and_counted_by_its_calls(tmp_path: Path) -> None:
    path = scan_model(tmp_path / "scan.onnx", steps=12)
    kernels = {
        k.operator: k
        for k in read_kernels(answer(path)["kernels"], read_graph(path, 1).node_macs, NAMES)
    }
    assert kernels["Add"].calls == 12
    assert kernels["Add"].inside == "loop"
    assert kernels["Add"].bytes_moved == 12 * 3 * 5 * 4
    assert kernels["Scan"].calls == 1
    assert kernels["Scan"].inside is None
    assert kernels["Scan"].bytes_moved == 0
    assert kernels["MatMul"].inside is None
    record = explain(answer(path), read_graph(path, 1), NAMES, 1.0, RECORD, CONFIG).content()
    outer = [o for o in record["operators"] if not o["inner"]]
    assert sum(o["share"] for o in outer) == pytest.approx(1)


@pytest.mark.parametrize("fewer", [100, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_scan_of_very_many_steps_is_recorded_and_one_of_too_many_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fewer: int
) -> None:
    # More kernels than two timed inferences of a record may have; LightM-UNet on 32x32x32 runs 290,000.
    steps = 110_000 // fewer
    for limit in ("ENGINE_EVENTS", "MOST_EVENTS"):
        monkeypatch.setattr(onnxruntime_agent, limit, getattr(onnxruntime_agent, limit) // fewer)
    path = scan_model(tmp_path / "scan.onnx", steps=steps)
    found = answer(path)
    assert found["runs"] == 1
    kernels = {k["operator"]: k for k in found["kernels"]}
    assert kernels["Add"]["calls"] == steps
    assert kernels["Add"]["inside"] == "loop"
    assert kernels["Scan"]["calls"] == kernels["MatMul"]["calls"] == 1

    monkeypatch.setattr(onnxruntime_agent, "ENGINE_EVENTS", 2 * steps)
    with pytest.raises(AgentError, match=naming(2 * steps + 3)):
        answer(path)


def test_a_fused_recurrence_has_its_macs_and_its_shape(tmp_path: Path) -> None:
    tokens, groups, heads, d_k, d_v = 12, 1, 2, 5, 3
    nodes = [
        helper.make_node("Reshape", ["image", "to"], ["q"]),
        helper.make_node("MatMul", ["q", "wv"], ["v"]),
        helper.make_node("MatMul", ["q", "wg"], ["g"]),
        helper.make_node(
            "LinearAttention", ["q", "q", "v", "", "g"], ["o"], name="ssd", domain="com.microsoft",
            q_num_heads=groups, kv_num_heads=heads, update_rule="gated", scale=1.0,
        ),
        helper.make_node("MatMul", ["o", "wo"], ["logits"]),
    ]  # fmt: skip
    weights = {"wv": (d_k, heads * d_v), "wg": (d_k, heads), "wo": (heads * d_v, 4)}
    graph = helper.make_graph(
        nodes,
        "ssd",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, tokens, d_k])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", tokens, 4])],
        [
            numpy_helper.from_array(np.array([0, tokens, d_k], np.int64), "to"),
            *(numpy_helper.from_array(np.full(s, 0.1, np.float32), n) for n, s in weights.items()),
        ],
    )
    path = tmp_path / "ssd.onnx"
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    products = tokens * d_k * heads * (d_v + 1) + tokens * heads * d_v * 4
    recurrence = 2 * tokens * heads * d_k * d_v
    assert (
        linear_attention_macs([1, tokens, groups * d_k], [1, tokens, heads * d_v], groups)
        == recurrence
    )
    facts = read_graph(path, 2)
    assert facts.macs == products + recurrence
    assert facts.node_macs == {"ssd": 2 * recurrence}
    assert facts.uncounted == []
