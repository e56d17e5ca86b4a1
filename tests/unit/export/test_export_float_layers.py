"""Layers that stay in float between integer ones: onnxruntime runs them in float."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeward.runtimes.onnxruntime.float_layers import hold

SHAPES: dict[str, Any] = {
    "Conv": ([2, 8, 6, 6], (16, 4, 3, 3), {"group": 2}),
    "ConvTranspose": ([2, 8, 6, 6], (8, 8, 3, 3), {"group": 2}),
    "Gemm": ([4, 8], (16, 8), {"transB": 1, "beta": 0.5}),
}


def between_integers(operator: str, bias: bool, activation: str | None) -> onnx.ModelProto:
    """One float layer between two pairs of QuantizeLinear and DequantizeLinear."""
    rng = np.random.default_rng(0)
    image, weight, attributes = SHAPES[operator]
    constants = {"w": rng.normal(0, 0.2, weight).astype(np.float32)}
    if bias:
        constants["b"] = rng.normal(0, 1, 16).astype(np.float32)
    nodes = []

    def pair(source: str, name: str) -> str:
        constants[f"{name}_s"], constants[f"{name}_z"] = np.float32(0.04), np.uint8(128)
        scale = [f"{name}_s", f"{name}_z"]
        nodes.append(helper.make_node("QuantizeLinear", [source, *scale], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *scale], [name]))
        return name

    inputs = [pair("x", "a"), "w", *(["b"] if bias else [])]
    nodes.append(helper.make_node(operator, inputs, ["y"], name="layer", **attributes))
    last = "y"
    if activation:
        nodes.append(helper.make_node(activation, [last], ["z"]))
        last = "z"
    nodes.append(helper.make_node("Identity", [pair(last, "o")], ["out"]))
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, list("nchw"[: len(image)]))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    return model


def executed(
    model: onnx.ModelProto, at: Path, image: np.ndarray
) -> tuple[Counter[str], np.ndarray]:
    """Return the operators that onnxruntime is left with, and its result."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(at / "optimized.onnx")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    nodes = onnx.load(at / "optimized.onnx").graph.node
    return Counter(node.op_type for node in nodes), session.run(None, {"x": image})[0]


def literally(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    """Return the result of the graph as it is written, without any optimization."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: np.ndarray = session.run(None, {"x": image})[0]
    return found


@pytest.mark.parametrize("activation", [None, "Relu"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("operator", SHAPES)
def test_the_engine_leaves_it_in_float(
    operator: str, bias: bool, activation: str | None, tmp_path: Path
) -> None:
    image = np.random.default_rng(1).normal(0, 1, SHAPES[operator][0]).astype(np.float32)
    before = between_integers(operator, bias, activation)
    after = onnx.ModelProto()
    after.CopyFrom(before)
    assert hold(after) == ["layer"]
    onnx.checker.check_model(after, full_check=True)
    exact = literally(before, image)
    kinds, found = executed(after, tmp_path, image)
    assert not {"QLinearConv", "QGemm"} & set(kinds)
    # One pair for the input and one for the result: none for the weights.
    assert kinds["DequantizeLinear"] == 2
    # The rounding of a sum may fall to the other side of a step.
    assert np.abs(found - exact).max() <= 0.04 + 1e-6
    assert np.mean(found != exact) < 0.01
    names = {i.name for i in after.graph.initializer}
    assert names == {name for n in after.graph.node for name in n.input} & names


def test_without_it_the_engine_rounds_the_weights(tmp_path: Path) -> None:
    image = np.random.default_rng(1).normal(0, 1, SHAPES["Conv"][0]).astype(np.float32)
    kinds, _ = executed(between_integers("Conv", True, None), tmp_path, image)
    assert kinds["QLinearConv"] == 1, "the reason for float_layers is gone: remove it"


def test_what_is_not_between_integers_stays_as_it_is() -> None:
    model = between_integers("Conv", True, None)
    model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    model.graph.node.append(helper.make_node("Neg", ["y"], ["unused"]))
    before = model.SerializeToString()
    assert hold(model) == []
    assert model.SerializeToString() == before
