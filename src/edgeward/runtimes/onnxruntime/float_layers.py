"""Layers that are meant to stay in float, kept in float by the engine, too.

onnxruntime (1.31, optimizer ``WeightBiasQuantization``) quantizes the weights of a convolution or
``Gemm`` whose input comes from a DequantizeLinear and whose result, or its ReLU, goes into a
QuantizeLinear: a layer between two integer ones. Then a layer that was left out of quantization
because its integer kernel is slow, or because it must be exact, is neither fast nor exact.
"""

from __future__ import annotations

import onnx
from onnx import helper

# What the optimizer looks for; a matrix product without a bias (MatMul) it leaves alone.
LAYERS = ("Conv", "ConvTranspose", "Gemm")


def hold(model: onnx.ModelProto) -> list[str]:
    """Put a leaky ReLU of slope 1 behind float layers between integer ones: it hands every value on, and the pattern is gone.

    Engines take it into the layer, so it costs nothing; an addition behind the layer would be an operator of its own.

    Parameters
    ----------
    model : changed in place.

    Returns
    -------
    Names of the layers that were changed.
    """
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    producers = {name: node.op_type for node in graph.node for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    changed: list[str] = []
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        if (
            node.op_type not in LAYERS
            or node.input[1] not in constants
            or producers.get(node.input[0]) != "DequantizeLinear"
            or any(name not in constants for name in node.input[2:] if name)
            or not _into_integers(users.get(node.output[0], []), users)
        ):
            continue
        result = node.output[0]
        node.output[0] = raw = f"{result}_held"
        nodes.append(
            helper.make_node("LeakyRelu", [raw], [result], name=f"{node.name}_held", alpha=1.0)
        )
        changed.append(node.name)
    del graph.node[:]
    graph.node.extend(nodes)
    return changed


def _into_integers(readers: list[onnx.NodeProto], users: dict[str, list[onnx.NodeProto]]) -> bool:
    """Tell whether a result goes into one QuantizeLinear, directly or through one operator."""
    if len(readers) != 1:
        return False
    behind = users.get(readers[0].output[0], [])
    return readers[0].op_type == "QuantizeLinear" or (
        bool(behind) and all(node.op_type == "QuantizeLinear" for node in behind)
    )
