"""What an ONNX file holds."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import inliner, shape_inference

from edgeward.core.errors import UserError
from edgeward.runtimes.base import GraphFacts
from edgeward.runtimes.macs import (
    conv_macs,
    linear_attention_macs,
    matmul_macs,
    transposed_conv_macs,
)
from edgeward.runtimes.onnxruntime.file import read_model

INPUT, OUTPUT, BATCH = "image", "logits", "batch"
"""Names of what every file takes and gives, and of its first dimension."""

# Operators that multiply and accumulate, but that have no closed count here.
UNCOUNTED = {"Attention", "DeformConv", "Einsum", "GRU", "If", "Loop", "LSTM", "RNN", "Scan"}


def stamp(model: onnx.ModelProto, properties: Mapping[str, Any]) -> None:
    """Replace the metadata properties of `model`; each value is written as JSON."""
    del model.metadata_props[:]
    onnx.helper.set_model_props(
        model, {key: json.dumps(value, sort_keys=True) for key, value in properties.items()}
    )


def _load(path: Path) -> onnx.ModelProto:
    model = read_model(path)
    return inliner.inline_local_functions(model) if model.functions else model


def _fix_batch(model: onnx.ModelProto, path: Path, batch: int) -> list[int]:
    """Set the batch of the image input and forget the dynamic shapes; return the input's shape."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) not in (4, 5):
        raise UserError(
            f"{path}: one input (batch, c, h, w) or (batch, c, d, h, w) expected, found {[v.name for v in inputs]}."
        )
    dims = inputs[0].type.tensor_type.shape.dim
    if any(not dim.HasField("dim_value") for dim in dims[1:]):
        raise UserError(f"{path}: only the batch of input '{inputs[0].name}' may be dynamic.")
    if dims[0].HasField("dim_value") and dims[0].dim_value != batch:
        raise UserError(
            f"{path}: the batch is fixed at {dims[0].dim_value}, but {batch} is asked for; "
            "set `batch` in the device's YAML in config/profile/."
        )
    dims[0].dim_value = batch
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return [dim.dim_value for dim in dims]


def _with_known_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with a stand-in of the same output shape for each operator of the engine's own.

    ONNX infers no shapes for operators outside the standard, and so for none behind them.
    """
    if not any(node.op_type == "LinearAttention" for node in model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type == "LinearAttention":  # its first output is shaped as the values are
            stand_in = onnx.helper.make_node("Identity", [node.input[2]], [node.output[0]])
            node.CopyFrom(stand_in)
    return copy


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    model = _with_known_operators(model)
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {t.name: list(t.dims) for t in inferred.initializer}
    for value in [*inferred.input, *inferred.value_info, *inferred.output]:
        dims = value.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = [dim.dim_value for dim in dims]
    return shapes


def _node_macs(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    """Return the MACs of a node, 0 for one that does not multiply; KeyError if a shape lacks."""
    kind = node.op_type
    if kind in {"Conv", "ConvInteger"}:
        return conv_macs(shapes[node.output[0]], shapes[node.input[1]])
    if kind == "QLinearConv":
        return conv_macs(shapes[node.output[0]], shapes[node.input[3]])
    if kind == "ConvTranspose":
        return transposed_conv_macs(shapes[node.input[0]], shapes[node.input[1]])
    if kind == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return matmul_macs(shapes[node.output[0]], shapes[node.input[0]][0 if transposed else 1])
    if kind in {"MatMul", "MatMulInteger", "QLinearMatMul"}:
        return matmul_macs(shapes[node.output[0]], shapes[node.input[0]][-1])
    if kind == "LinearAttention":
        heads = next(a.i for a in node.attribute if a.name == "q_num_heads")
        return linear_attention_macs(shapes[node.input[0]], shapes[node.input[2]], heads)
    return 0


def _parameters(model: onnx.ModelProto) -> tuple[int, int]:
    """Count the elements of float tensors, and those of quantised weights, each once."""
    quantised, scales = set(), set()
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            quantised.add(node.input[0])
        if node.op_type in {"DequantizeLinear", "QuantizeLinear"}:
            scales.update(node.input[1:])
        if node.op_type in {"QLinearConv", "QLinearMatMul"}:
            quantised.add(node.input[3])
            scales.update([*node.input[1:3], *node.input[4:8]])
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE}
    tensors = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    tensors[node.output[0]] = attribute.t
    sizes = {name: math.prod(t.dims) for name, t in tensors.items() if name not in scales}
    whole = {n for n in sizes if n in quantised and tensors[n].data_type not in floats}
    return (
        sum(k for n, k in sizes.items() if n not in whole and tensors[n].data_type in floats),
        sum(sizes[n] for n in whole),
    )


def _precision(model: onnx.ModelProto) -> str:
    kinds = {node.op_type for node in model.graph.node}
    if any(
        k == "QuantizeLinear" or k.startswith("QLinear") or k.endswith("Integer") for k in kinds
    ):
        return "int8"
    weights: Counter[int] = Counter()
    for tensor in model.graph.initializer:
        weights[tensor.data_type] += math.prod(tensor.dims)
    kind = weights.most_common(1)[0][0] if weights else onnx.TensorProto.FLOAT
    names = {onnx.TensorProto.FLOAT: "fp32", onnx.TensorProto.FLOAT16: "fp16"}
    return names.get(kind, onnx.TensorProto.DataType.Name(kind).lower())


def read_graph(path: Path, batch: int) -> GraphFacts:
    """Return the static facts of an ONNX file.

    Raises
    ------
    UserError
        If the file is no valid model, does not take one image input, or its shapes cannot be
        inferred.
    """
    model = _load(path)
    input_shape = _fix_batch(model, path, batch)
    try:
        shapes = _shapes(model)
        macs = [_node_macs(node, shapes) for node in model.graph.node]
    except (shape_inference.InferenceError, KeyError) as error:
        raise UserError(f"{path}: the shape of tensor {error} cannot be inferred.") from error
    operators = Counter(node.op_type for node in model.graph.node)
    floats, integers = _parameters(model)
    return GraphFacts(
        input_shape=input_shape,
        parameters=floats + integers,
        integers=integers,
        macs=sum(macs) // batch,
        precision=_precision(model),
        operators=dict(sorted(operators.items())),
        uncounted=sorted(UNCOUNTED & operators.keys()),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        node_macs={
            node.name: n
            for node, n in zip(model.graph.node, macs, strict=True)
            if node.op_type == "LinearAttention"
        },
    )
