"""From a PyTorch program to an ExecuTorch file, with XNNPACK for all that it takes.

What had to be found out (executorch 1.5.1):

- XNNPACK's integer layers want an integer result. A layer that gives floats (the last one, those on tokens) keeps its weights
  as they are after quantization, but in float.
- Its GELU is the exact one, whatever the program asks for, and is up to 4.7e-4 off where that is the approximation by tanh:
  that one is written in tanh and products, which XNNPACK has.
- Its softmax of a tensor of four dimensions that a convolution gave, channels last, runs over the channels, whatever axis the
  program names (off by 0.4; EfficientFormerV2's attention): rows are laid out in two dimensions first.
- Its quantizers of pairs are for int8 alone (`edgeward.runtimes.program` writes uint8 so).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from operator import getitem
from pathlib import Path
from typing import Any

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from torch import Tensor
from torch.fx import GraphModule, Node

from edgeward.core.errors import one_line
from edgeward.runtimes.base import Unportable
from edgeward.runtimes.executorch.config import Port
from edgeward.runtimes.program import float_where_no_integers, of_one_image

aten = torch.ops.aten
BATCH_NORM = "_native_batch_norm_legit_no_training"


def write(
    program: torch.export.ExportedProgram,
    cfg: Port,  # noqa: ARG001 - it has no keys
    properties: Mapping[str, Any],
    path: Path,
) -> Mapping[str, int]:
    """Write a program as a file of ExecuTorch; return its operators, before XNNPACK fuses any.

    Parameters
    ----------
    properties : what the method ``edgeward`` of the file returns, as JSON; the method ``kernels`` returns the tensors of what
        runs, in order, which the engine's record lacks.

    Raises
    ------
    Unportable
        If the program has no such form.
    """
    try:
        content, kernels = lowered(of_one_image(program, _edit), properties)
    except Exception as error:  # of whatever part of the converter
        raise Unportable(f"ExecuTorch cannot take the program: {one_line(error)}") from error
    path.write_bytes(content)
    return Counter(kernel["operator"] for kernel in kernels)


def lowered(
    program: torch.export.ExportedProgram, properties: Mapping[str, Any]
) -> tuple[bytes, list[dict[str, Any]]]:
    """Return a program in ExecuTorch's form, and what runs in it; see `write`."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        kernels = list(_kernels(edge.exported_program()))
        said = {"edgeward": dict(properties), "kernels": kernels}
        # As its argument `constant_methods` does it, but what it says of the kernels is known only now.
        edge._config_methods = {k: json.dumps(v, sort_keys=True) for k, v in said.items()}
        return edge.to_executorch().buffer, kernels


def _edit(module: GraphModule) -> None:
    float_where_no_integers(module)
    for node in module.graph.nodes:
        if node.target is aten.gelu.default and node.kwargs.get("approximate") == "tanh":
            node.target, node.kwargs = _gelu_by_tanh, {}
        elif node.target is aten.softmax.int and node.args[0].meta["val"].dim() == 4:
            _by_rows(node)


def _by_rows(softmax: Node) -> None:
    if softmax.args[1] in (-1, 3):
        softmax.target, softmax.args = _softmax_of_rows, softmax.args[:1]


def _softmax_of_rows(x: Tensor) -> Tensor:
    return x.flatten(0, 2).softmax(-1).reshape(x.shape)


def _gelu_by_tanh(x: Tensor) -> Tensor:
    inner = x * (x * x * 0.044715 + 1.0) * math.sqrt(2 / math.pi)
    return x * 0.5 * (torch.tanh(inner) + 1.0)


def _kernels(program: torch.export.ExportedProgram) -> Iterator[dict[str, Any]]:
    """Yield what computes in the order in which it runs: which delegate it is in, or None, operator, and tensors."""
    graphs = program.graph_module
    number = 0
    for node in graphs.graph.nodes:
        if node.op != "call_function" or node.target is getitem:
            continue
        if "executorch_call_delegate" not in str(node.target):
            yield from _kernel(node, None)
            continue
        inner = getattr(graphs, node.args[0].target).original_module
        for part in inner.graph_module.graph.nodes:
            if part.op == "call_function" and not (part.target is getitem and part.args[1]):
                yield from _kernel(part, number)
        number += 1


def _kernel(node: Node, delegate: int | None) -> Iterator[dict[str, Any]]:
    """Yield a kernel by the node of its result; of several results the first stands for it."""
    if isinstance(node.meta.get("val"), Tensor):
        source: Any = node.args[0] if node.target is getitem else node
        inputs = [_tensor(n) for n in source.all_input_nodes if isinstance(n.meta["val"], Tensor)]
        operator = str(getattr(source.target, "_op", source.target)).split(".")[1]
        if operator == BATCH_NORM and delegate is not None:
            operator, inputs = "convolution", _as_convolution(inputs)
        yield {
            "delegate": delegate,
            "operator": operator,
            "inputs": inputs,
            "outputs": [_tensor(node)],
        }


def _as_convolution(inputs: list[Any]) -> list[Any]:
    """Return image, weights and bias of the depthwise convolution that XNNPACK makes of a batch norm."""
    image, scale, bias, *_ = inputs
    kind, (channels,) = scale
    return [image, [kind, [channels] + [1] * (len(image[1]) - 1)], bias]


def _tensor(node: Node) -> list[Any]:
    value = node.meta["val"]
    kind = str(value.dtype).removeprefix("torch.").replace("float32", "float")
    return [kind, [int(side) for side in value.shape]]
