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
from edgeward.runtimes.agent import TYPES
from edgeward.runtimes.kernels import KernelNames, Kind
from edgeward.runtimes.macs import conv_macs, matmul_macs, transposed_conv_macs

EIGHT_BIT = {"int8", "uint8"}


@dataclass(frozen=True)
class Kernel:
    """One kernel of one inference.

    Attributes
    ----------
    kind : what it does besides computing.
    us : median time per inference in microseconds, of all its calls together.
    calls : times that it runs per inference; above 1 inside a Scan or Loop.
    inside : name of the Scan, Loop or If that runs it, whose time includes this one; or None.
    macs : multiply-accumulates per inference; 0 where nothing is multiplied and summed, None where
        the count has no closed form.
    bytes_moved : bytes read and written per inference, every tensor once per call.
    weight_bytes : bytes of the weights among its inputs; None where the engine does not say.
    integer : whether its products are of integers.
    quantised : whether it reads or writes 8-bit integers.
    provider : how it is computed, in the engine's words.
    """

    name: str
    operator: str
    kind: Kind
    us: float
    calls: int
    inside: str | None
    macs: int | None
    bytes_moved: int
    weight_bytes: int | None
    integer: bool
    quantised: bool
    provider: str | None = None


Tensor = Sequence[Any]  # [type, shape]


def _size(tensor: Tensor) -> int:
    kind, shape = tensor
    if kind not in TYPES:
        raise UserError(
            f"The engine used a tensor of type '{kind}', whose size is not known. Known: "
            f"{', '.join(TYPES)}. Add it to TYPES in edgeward/runtimes/agent.py."
        )
    return math.ceil(TYPES[kind] * math.prod(shape))


def tensor_bytes(
    operator: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], names: KernelNames
) -> int:
    """Return the bytes that one call reads and writes: each input and each output once.

    A view moves nothing; a slice or gather reads as much as it writes. What a kernel needs beyond
    its tensors (work space, reading an input more than once) is not known here and not counted, so
    this is a lower bound.
    """
    if operator in names.views:
        return 0
    written = sum(_size(tensor) for tensor in outputs)
    if operator in names.pickers:
        return 2 * written + sum(_size(tensor) for tensor in inputs[1:])
    return written + sum(_size(tensor) for tensor in inputs)


def kernel_macs(
    operator: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], names: KernelNames
) -> int | None:
    """Return the MACs of one call; 0 for what does not multiply and sum, None if not known, as of a layer without its tensors.

    Channels may be first or last: only the number of elements of the output and the shape of the
    weights count.
    """
    shapes = [list(shape) for _, shape in inputs]
    if not (inputs and outputs):
        return None if operator in names.multiplying else 0
    if operator in names.convolutions:
        weights = shapes[names.convolutions[operator]]
        # Some give grouped weights as (groups, c_out / groups, c_in / groups, k...).
        grouped = len(weights) > len(shapes[0])
        return conv_macs(outputs[0][1], weights[1:] if grouped else weights)
    if operator in names.depthwise:
        return conv_macs(outputs[0][1], shapes[names.depthwise[operator]][:-1])
    if operator in names.transposed:
        return transposed_conv_macs(shapes[0], shapes[1])
    if operator in names.gemms:
        rows, columns = outputs[0][1]
        return matmul_macs([rows, columns], math.prod(shapes[0]) // rows)
    if operator in names.products:
        return _product_macs(shapes[0], outputs[0][1])
    return None if operator in names.unknown else 0


def _product_macs(left: Sequence[int], output: Sequence[int]) -> int:
    """MACs of a matrix product whose left factor may be transposed, (.., m, k) or (.., k, m)."""
    if len(left) < 2:
        return matmul_macs(output, math.prod(left))
    rows = output[-2] if len(output) > 1 and left[-2] != left[-1] else left[-2]
    if rows not in left[-2:]:  # the right factor is a vector: (.., m)
        rows = left[-2]
    return matmul_macs(output, left[-2] * left[-1] // rows)


def read_kernels(
    records: Sequence[Mapping[str, Any]], known_macs: Mapping[str, int], names: KernelNames
) -> list[Kernel]:
    """Return the kernels of the agent's answer to the task ``operators``.

    Parameters
    ----------
    records : ``name, operator, us, calls, inside, weight_bytes`` and the tensors ``inputs`` and
        ``outputs`` as [type, shape].
    known_macs : node name -> MACs per inference, from the model's graph, for operators whose
        attributes are needed to count them.
    names : what the engine's operators do.
    """
    kernels = []
    for record in records:
        operator, calls = record["operator"], record["calls"]
        inputs, outputs = record["inputs"], record["outputs"]
        macs = kernel_macs(operator, inputs, outputs, names)
        macs = known_macs.get(record["name"]) if macs is None else macs * calls
        # A container moves what its body moves, which is listed by itself.
        kind = names.kind(operator)
        moved = 0 if kind == "loop" else calls * tensor_bytes(operator, inputs, outputs, names)
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
                kind=kind,
                integer=operator in names.integer or (bool(macs) and inputs[0][0] in EIGHT_BIT),
                quantised=any(t in EIGHT_BIT for t, _ in [*inputs, *outputs]),
                provider=record.get("provider"),
            )
        )
    return kernels


def int8_macs(kernels: Sequence[Kernel]) -> int:
    """Return the MACs that integer kernels executed in one inference."""
    return sum(kernel.macs or 0 for kernel in kernels if kernel.integer)
