"""What a kernel computes and moves, from its operator and the tensors that it worked on.

The kernels are those that the engine executed, so fusion has already happened: what a fused kernel
keeps in registers is not counted, because it never was a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeward.core.errors import UserError
from edgeward.profiling.graph import conv_macs, matmul_macs, transposed_conv_macs

BYTES = {
    "float": 4, "float16": 2, "bfloat16": 2, "double": 8, "bool": 1,
    "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8,
    "int4": 0.5, "uint4": 0.5, "float8e4m3fn": 1, "float8e5m2": 1,
}  # fmt: skip
# Names are those of onnxruntime's operators and of OpenVINO's layers.
CONVOLUTIONS = {
    "Conv", "FusedConv", "NhwcFusedConv", "ConvInteger", "ConvIntegerToFloat", "Convolution",
}  # fmt: skip
TRANSPOSED = {"ConvTranspose", "Deconvolution"}
PRODUCTS = {
    "MatMul", "FusedMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
    "QLinearMatMul", "FullyConnected",
}  # fmt: skip
GEMMS = {"Gemm", "FusedGemm", "QGemm"}
# Multiply integers, whatever the type of their first input is.
INTEGER = {
    "QLinearConv", "ConvInteger", "ConvIntegerToFloat", "QGemm", "QLinearMatMul", "MatMulInteger",
    "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
}  # fmt: skip
EIGHT_BIT = {"int8", "uint8"}
CONVERSIONS = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast",
               "FakeQuantize", "Convert"}  # fmt: skip
# Change how a tensor is laid out and nothing else.
LAYOUT = {
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "ReorderInput", "ReorderOutput",
    "Reorder",
}  # fmt: skip
# Hand the same memory on under another shape, or read only a shape.
VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Shape", "Size"}
# Read no more of their input than they write.
PICKERS = {"Slice", "Gather", "GatherElements", "GatherND"}
CONTROL = {"Scan", "Loop", "If"}
# Multiply and sum, but how much depends on attributes that a kernel does not tell.
UNKNOWN = {
    "Attention", "DecoderMaskedMultiHeadAttention", "DeformConv", "Einsum", "GRU",
    "GroupQueryAttention", "LinearAttention", "LSTM", "MHA", "MultiHeadAttention", "PackedAttention",
    "RNN", "ScaledDotProductAttention", "Subgraph",
}  # fmt: skip


@dataclass(frozen=True)
class Kernel:
    """One kernel of one inference.

    Attributes
    ----------
    us : median time per inference in microseconds, of all its calls together.
    calls : times that it runs per inference; above 1 inside a Scan or Loop.
    inside : name of the Scan, Loop or If that runs it, whose time includes this one; or None.
    macs : multiply-accumulates per inference; 0 where nothing is multiplied and summed, None where
        the count has no closed form.
    bytes_moved : bytes read and written per inference, every tensor once per call.
    weight_bytes : bytes of the weights among its inputs; None where the engine does not say.
    integer : whether its products are of integers.
    quantised : whether it reads or writes 8-bit integers.
    """

    name: str
    operator: str
    us: float
    calls: int
    inside: str | None
    macs: int | None
    bytes_moved: int
    weight_bytes: int | None
    integer: bool
    quantised: bool


Tensor = Sequence[Any]  # [type, shape]


def _size(tensor: Tensor) -> int:
    kind, shape = tensor
    if kind not in BYTES:
        raise UserError(
            f"The engine used a tensor of type '{kind}', whose size is not known. Known: "
            f"{', '.join(BYTES)}. Add it to BYTES in edgeward/profiling/explain/kernels.py."
        )
    return math.ceil(BYTES[kind] * math.prod(shape))


def tensor_bytes(operator: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> int:
    """Return the bytes that one call reads and writes: each input and each output once.

    A view moves nothing; a slice or gather reads as much as it writes. What a kernel needs beyond
    its tensors (work space, reading an input more than once) is not known here and not counted, so
    this is a lower bound.
    """
    if operator in VIEWS:
        return 0
    written = sum(_size(tensor) for tensor in outputs)
    if operator in PICKERS:
        return 2 * written + sum(_size(tensor) for tensor in inputs[1:])
    return written + sum(_size(tensor) for tensor in inputs)


def kernel_macs(operator: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> int | None:
    """Return the MACs of one call; 0 for what does not multiply and sum, None if not known.

    Channels may be first or last: only the number of elements of the output and the shape of the
    weights count.
    """
    shapes = [list(shape) for _, shape in inputs]
    if operator in CONVOLUTIONS:
        # OpenVINO gives grouped weights as (groups, c_out / groups, c_in / groups, k...).
        grouped = len(shapes[1]) > len(shapes[0])
        return conv_macs(outputs[0][1], shapes[1][1:] if grouped else shapes[1])
    if operator == "QLinearConv":
        return conv_macs(outputs[0][1], shapes[3])
    if operator in TRANSPOSED:
        return transposed_conv_macs(shapes[0], shapes[1])
    if operator in GEMMS:
        rows, columns = outputs[0][1]
        return matmul_macs([rows, columns], math.prod(shapes[0]) // rows)
    if operator in PRODUCTS:
        return _product_macs(shapes[0], outputs[0][1])
    return None if operator in UNKNOWN else 0


def _product_macs(left: Sequence[int], output: Sequence[int]) -> int:
    """MACs of a matrix product whose left factor may be transposed, (.., m, k) or (.., k, m)."""
    if len(left) < 2:
        return matmul_macs(output, math.prod(left))
    rows = output[-2] if len(output) > 1 and left[-2] != left[-1] else left[-2]
    if rows not in left[-2:]:  # the right factor is a vector: (.., m)
        rows = left[-2]
    return matmul_macs(output, left[-2] * left[-1] // rows)


def _multiplies_integers(operator: str, inputs: Sequence[Tensor], macs: int | None) -> bool:
    return operator in INTEGER or (bool(macs) and inputs[0][0] in EIGHT_BIT)


def read_kernels(
    records: Sequence[Mapping[str, Any]], known_macs: Mapping[str, int]
) -> list[Kernel]:
    """Return the kernels of the agent's answer to the task ``operators``.

    Parameters
    ----------
    records : ``name, operator, us, calls, inside, weight_bytes`` and the tensors ``inputs`` and
        ``outputs`` as [type, shape].
    known_macs : node name -> MACs per inference, from the model's graph, for operators whose
        attributes are needed to count them.
    """
    kernels = []
    for record in records:
        operator, calls = record["operator"], record["calls"]
        inputs, outputs = record["inputs"], record["outputs"]
        macs = kernel_macs(operator, inputs, outputs)
        macs = known_macs.get(record["name"]) if macs is None else macs * calls
        # A container moves what its body moves, which is listed by itself.
        moved = 0 if operator in CONTROL else tensor_bytes(operator, inputs, outputs) * calls
        kernels.append(
            Kernel(
                name=record["name"],
                operator=operator,
                us=float(record["us"]),
                calls=calls,
                inside=record["inside"],
                macs=macs,
                bytes_moved=moved,
                weight_bytes=record["weight_bytes"],
                integer=_multiplies_integers(operator, inputs, macs),
                quantised=any(kind in EIGHT_BIT for kind, _ in [*inputs, *outputs]),
            )
        )
    return kernels


def int8_macs(kernels: Sequence[Kernel]) -> int:
    """Return the MACs that integer kernels executed in one inference."""
    return sum(kernel.macs or 0 for kernel in kernels if kernel.integer)
