"""Layers that are meant to stay in float, kept in float by the engine, too.

onnxruntime (1.31, optimizer ``WeightBiasQuantization``) quantizes the weights of a convolution or
``Gemm`` whose input comes from a DequantizeLinear and whose result, or its ReLU, goes into a
QuantizeLinear: a layer between two integer ones. Then a layer that was left out of quantization
because its integer kernel is slow, or because it must be exact, is neither fast nor exact.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

# What the optimizer looks for; a matrix product without a bias (MatMul) it leaves alone.
LAYERS = ("Conv", "ConvTranspose", "Gemm")


def hold(model: onnx.ModelProto) -> list[str]:
    """Take the bias out of float layers between integer ones, as ``Sub(layer(x), -bias)``.

    Numbers stay the same but for the rounding of one addition. An ``Add`` would be fused into the
    layer again, and with it the pattern be there again.

    Parameters
    ----------
    model : changed in place.

    Returns
    -------
    Names of the layers that were changed.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
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
        raw, name = f"{result}_unbiased", f"{result}_negative_bias"
        graph.initializer.append(numpy_helper.from_array(_negative_bias(node, constants), name))
        for bias in filter(None, node.input[2:]):
            if len(users[bias]) == 1:
                graph.initializer.remove(constants[bias])
        del node.input[2:]
        node.output[0] = raw
        nodes.append(helper.make_node("Sub", [raw, name], [result], name=f"{node.name}_bias"))
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


def _negative_bias(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> np.ndarray:
    """Return minus the bias of a layer, in a shape that broadcasts along its channels."""
    weight = numpy_helper.to_array(constants[node.input[1]])
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Conv":
        width, shape = weight.shape[0], (1, -1, *[1] * (weight.ndim - 2))
    elif node.op_type == "ConvTranspose":
        width = weight.shape[1] * attributes.get("group", 1)
        shape = (1, -1, *[1] * (weight.ndim - 2))
    else:
        width, shape = weight.shape[0 if attributes.get("transB", 0) else 1], (1, -1)
    if len(node.input) < 3 or not node.input[2]:
        return np.zeros(width, dtype=weight.dtype).reshape(shape)
    scale = attributes.get("beta", 1.0) if node.op_type == "Gemm" else 1.0
    bias = numpy_helper.to_array(constants[node.input[2]])
    spread = np.broadcast_to(bias.reshape(-1), (width,))
    result: np.ndarray = (-scale * spread).astype(weight.dtype).reshape(shape)
    return result
