"""Small ONNX graphs of convolutions and matrix products, of sizes that suit an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeward.runtimes.base import Probe

OPSET, IR_VERSION = 20, 10  # what stock engines of the last years read
LAYERS = 4  # of one graph, so that what happens at its ends does not count
Weights = tuple[int, ...]
# Name -> shape of the input, shape of each layer's weights, operator. Multiples of the vector and
# tile widths in use; the tensors fit a cache of 1 MB.
GRAPHS: dict[str, tuple[Weights, Weights, str]] = {
    "matmul_384": ((384, 384), (384, 384), "MatMul"),
    "conv_3x3_64": ((1, 64, 28, 28), (64, 64, 3, 3), "Conv"),
    "conv_1x1_256": ((1, 256, 14, 14), (256, 256, 1, 1), "Conv"),
}


def _layer(i: int, operator: str, weights: Weights, integer: bool) -> tuple[list[Any], list[Any]]:
    """Return the nodes and constants of one layer, x{i} -> x{i+1}."""
    rng = np.random.default_rng(i)
    pads = {"pads": [weights[-1] // 2] * 4} if operator == "Conv" else {}
    if not integer:
        values = rng.normal(0, 1e-2, weights).astype(np.float32)
        node = helper.make_node(operator, [f"x{i}", f"w{i}"], [f"x{i + 1}"], **pads)
        return [node], [numpy_helper.from_array(values, f"w{i}")]
    values = rng.integers(-127, 128, weights).astype(np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", [f"x{i}", "scale", "zero_u8"], [f"d{i}"]),
        helper.make_node("DequantizeLinear", [f"w{i}", "scale", "zero_i8"], [f"f{i}"]),
        helper.make_node(operator, [f"d{i}", f"f{i}"], [f"y{i}"], **pads),
        helper.make_node("QuantizeLinear", [f"y{i}", "scale", "zero_u8"], [f"x{i + 1}"]),
    ]
    return nodes, [numpy_helper.from_array(values, f"w{i}")]


def graph(name: str, integer: bool) -> tuple[onnx.ModelProto, int]:
    """Return a graph of `GRAPHS` and its MACs.

    The INT8 form has uint8 activations and int8 weights in QDQ form, which engines fuse into
    integer kernels; its input and output are uint8.
    """
    shape, weights, operator = GRAPHS[name]
    nodes: list[Any] = []
    constants: list[Any] = []
    for i in range(LAYERS):
        more, values = _layer(i, operator, weights, integer)
        nodes += more
        constants += values
    kind = TensorProto.UINT8 if integer else TensorProto.FLOAT
    if integer:
        constants += [
            numpy_helper.from_array(np.array(0.01, np.float32), "scale"),
            numpy_helper.from_array(np.array(128, np.uint8), "zero_u8"),
            numpy_helper.from_array(np.array(0, np.int8), "zero_i8"),
        ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info("x0", kind, shape)],
            [helper.make_tensor_value_info(f"x{LAYERS}", kind, shape)],
            constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    per_output = np.prod(weights[1:]) if operator == "Conv" else weights[0]
    return model, int(LAYERS * np.prod(shape) * per_output)


def write(folder: Path) -> list[Probe]:
    """Write every graph in fp32 and in INT8; return them."""
    probes = []
    for name in GRAPHS:
        for precision in ("fp32", "int8"):
            model, macs = graph(name, precision == "int8")
            path = folder / f"{name}_{precision}.onnx"
            onnx.save(model, path)
            probes.append(Probe(name, precision, macs, path))
    return probes
