"""One operator of a network as a small ONNX graph, in float or with quantize/dequantize pairs, as `export` writes it.

Where its tensors are images or volumes, a depthwise convolution stands at every end, of the number format that the end has: engines keep
such tensors in layouts of their own, and change them only where something else reads them. What the graph costs beyond the
operator is taken off by that of ``nothing`` (`edgeward.profiling.kernels`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeward.runtimes.base import End, Form, Piece, Shape

OPSET, IR_VERSION = 20, 10
KERNEL = 3  # of the convolutions at the ends
WEIGHT = np.float32(1e-3)  # scale of weights
# Of activations; times depend on them only where an activation is to vanish in its rounding.
SCALE, ZERO = 0.05, 128
ONE_NODE = {
    "relu": "Relu",
    "hardswish": "HardSwish",
    "sigmoid": "Sigmoid",
    "gelu": "Gelu",
}


class Graph:
    """A graph under construction; a tensor is its name, a shape and a number format."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.rng = np.random.default_rng(0)
        self.steps: dict[str, tuple[float, int]] = {}  # of integer tensors: scale and zero point

    def constant(self, name: str, values: np.ndarray) -> str:
        self.constants.setdefault(name, numpy_helper.from_array(values, name))
        return name

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def given(self, shape: Shape, form: Form) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs.append(_tensor(name, shape, form))
        return name

    def step(self, name: str) -> list[str]:
        """Return the constants with which a tensor of integers is read."""
        scale, zero = self.steps.get(name, (SCALE, ZERO))
        return [
            self.constant(f"scale_{scale}", np.array(scale, np.float32)),
            self.constant(f"zero_{zero}", np.array(zero, np.uint8)),
        ]

    def floats(self, name: str, form: Form) -> str:
        if form == "float":
            return name
        return self.node("DequantizeLinear", [name, *self.step(name)])

    def integers(self, name: str, behind: tuple[Any, ...] = ()) -> str:
        """Quantize a tensor; the range ends where the activation that was before it does, so that an engine can take it in."""
        scale, zero = SCALE, 0 if behind else ZERO
        if behind[:1] == ("clip",):
            low, high = behind[1:]
            scale = (high - low) / 256  # a little less than its range
            zero = round(-low / scale)
        done = f"t{len(self.nodes)}"
        self.steps[done] = scale, zero
        return self.node("QuantizeLinear", [name, *self.step(done)])

    def weight(self, shape: Shape, form: Form) -> str:
        """Add weights whose first dimension are output channels."""
        name = f"w{len(self.constants)}"
        if form == "float":
            return self.constant(name, self.rng.normal(0, 0.05, shape).astype(np.float32))
        self.constant(name, self.rng.integers(-127, 128, shape).astype(np.int8))
        scales = self.constant(f"{name}_scale", np.full(shape[0], WEIGHT, np.float32))
        zeros = self.constant(f"{name}_zero", np.zeros(shape[0], np.int8))
        return self.node("DequantizeLinear", [name, scales, zeros], axis=0)

    def bias(self, channels: int, form: Form, source: str = "") -> str:
        """Add a bias; in integers its scale has to be that of the tensor and of the weights, multiplied."""
        name = f"b{len(self.constants)}"
        if form == "float":
            return self.constant(name, self.rng.normal(0, 0.05, channels).astype(np.float32))
        self.constant(name, self.rng.integers(-99, 99, channels).astype(np.int32))
        scales = self.constant(
            f"{name}_scale",
            np.full(
                channels, np.float32(self.steps.get(source, (SCALE, ZERO))[0]) * WEIGHT, np.float32
            ),
        )
        zeros = self.constant(f"{name}_zero", np.zeros(channels, np.int32))
        return self.node("DequantizeLinear", [name, scales, zeros], axis=0)

    def neighbour(self, name: str, end: End) -> str:
        """Add the depthwise convolution at an end, if the tensor has a layout."""
        if not end.laid_out:
            return name
        shape, form = end.shape, end.form
        channels, sides = shape[1], len(shape) - 2
        inputs = [
            self.floats(name, form),
            self.weight((channels, 1, *[KERNEL] * sides), form),
            self.bias(channels, form, name),
        ]
        pads = [KERNEL // 2] * 2 * sides
        done = self.node("Conv", inputs, group=channels, pads=pads)
        return self.integers(done) if form == "int" else done

    def activation(self, name: str, behind: tuple[Any, ...]) -> str:
        kind, *settings = behind
        if kind in ONE_NODE:
            return self.node(ONE_NODE[kind], [name])
        if kind == "hardsigmoid":
            return self.node("HardSigmoid", [name], alpha=1 / 6, beta=0.5)
        if kind == "silu":
            return self.node("Mul", [name, self.node("Sigmoid", [name])])
        if kind == "clip":
            ends = [
                self.constant(f"{end}", np.array(end, np.float32)) for end in map(float, settings)
            ]
            return self.node("Clip", [name, *ends])
        raise ValueError(kind)


def _tensor(name: str, shape: Shape, form: Form) -> onnx.ValueInfoProto:
    """Describe an input or output. Of tokens the batch is open, as in what ships: onnxruntime fuses a product of known shape otherwise."""
    kind = TensorProto.UINT8 if form == "int" else TensorProto.FLOAT
    sides = ["batch", *shape[1:]] if len(shape) == 3 else shape
    return helper.make_tensor_value_info(name, kind, sides)


def _operator(graph: Graph, piece: Piece, ends: list[str], form: Form) -> str:
    """Add the operator; its result is float."""
    given = [graph.floats(name, form) for name in ends]
    settings = dict(piece.settings)
    if piece.kind in ("conv", "linear"):
        shape = settings["weight"]
        weight = graph.weight(shape, form)
        if piece.kind == "linear" and len(piece.output) > 2:
            product = graph.node("MatMul", [*given, graph.node("Transpose", [weight], perm=[1, 0])])
            bias = [graph.bias(shape[0], "float")] * settings["bias"]
            return graph.node("Add", [product, *bias]) if bias else product
        bias = [graph.bias(shape[0], form, ends[0])] * settings["bias"]
        if piece.kind == "linear":
            return graph.node("Gemm", [*given, weight, *bias], transB=1)
        return graph.node(
            "Conv",
            [*given, weight, *bias],
            strides=settings["stride"],
            pads=[*settings["padding"]] * 2,
            dilations=settings["dilation"],
            group=settings["groups"],
        )
    if piece.kind in ("add", "mul"):
        return graph.node(piece.kind.capitalize(), given)
    if piece.kind == "cat":
        return graph.node("Concat", given, axis=settings["axis"])
    if piece.kind == "max_pool":
        return graph.node(
            "MaxPool",
            given,
            kernel_shape=settings["kernel"],
            strides=settings["stride"],
            pads=[*settings["padding"]] * 2,
            dilations=settings["dilation"],
            ceil_mode=settings["ceil"],
        )
    if piece.kind == "upsample":
        factors = np.array(piece.output, np.float32) / np.array(piece.inputs[0], np.float32)
        scales = graph.constant("factors", factors.astype(np.float32))
        return graph.node(
            "Resize",
            [*given, "", scales],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    raise ValueError(piece.kind)


def build(piece: Piece, form: Form) -> onnx.ModelProto:
    """Return the graph of an operator; its inputs and output are float32, or uint8 where an end is of integers."""
    graph = Graph()
    *into, out = piece.ends(form)
    given = [graph.neighbour(graph.given(end.shape, end.form), end) for end in into]
    if piece.kind == "nothing":
        last = given[0] if out.laid_out else graph.node("Relu", given)
    elif piece.kind == "quantize":
        last = graph.integers(given[0])
    elif piece.kind == "dequantize":
        last = graph.floats(given[0], "int")
    else:
        last = _operator(graph, piece, given, form)
        if piece.behind and form == "int" and not piece.absorbed:
            last = graph.floats(graph.integers(last), "int")
        if piece.behind:
            last = graph.activation(last, piece.behind)
        if out.form == "int":
            last = graph.integers(last, piece.behind if piece.absorbed else ())
    last = graph.neighbour(last, out)
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            piece.kind,
            graph.inputs,
            [_tensor(last, out.shape, out.form)],
            [*graph.constants.values()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )


def write(piece: Piece, form: Form, path: Path) -> None:
    """Write the graph of an operator; see `build`."""
    onnx.save(build(piece, form), path)
