"""From a PyTorch program to a LiteRT file, by a converter in an environment of its own.

The converter wants an older torch than the project, so it runs as a process of its own (`convert.py`) with the Python that
``make litert`` sets up from its own lock. What had to be found out (litert-torch 0.10.0):

- Integer weights must come as float ones that are quantized and dequantized again, and a layer without an integer result is
  a float one, as in XNNPACK.
- It computes a choice between two tensors in the integers of one of them. A softplus, which it writes as a choice between x
  and log(1 + exp(x)), is then cut to the range of x, and is 0 throughout where x is negative (SSD-XS: decisions at chance).
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from edgeward.core.errors import UserError
from edgeward.runtimes.agent import AgentError
from edgeward.runtimes.base import Unportable
from edgeward.runtimes.litert.agent import Engine
from edgeward.runtimes.litert.config import Port
from edgeward.runtimes.litert.stamp import stamp
from edgeward.runtimes.program import constant, float_where_no_integers, is_pair, of_one_image
from edgeward.runtimes.quantizer import tensor_at

READS = ("convert.py",)  # started by its path: see edgeward.pipeline.closure
PYTHON = "EDGEWARD_LITERT"
PATIENCE_S = 3600
LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
aten = torch.ops.aten
# Operators whose integers LiteRT's kernels give in one scale and zero point only, those of all that they can be.
FIXED = {
    aten.sigmoid.default: (1 / 256, -128),
    aten.softmax.int: (1 / 256, -128),
    aten.tanh.default: (1 / 128, 0),
}


def converter() -> str:
    """Return the Python of the converter's environment.

    Raises
    ------
    UserError
        If it is not there.
    """
    python = Path(os.environ.get(PYTHON, ".venv-litert/bin/python"))
    if not python.is_file():
        raise UserError(
            f"{python} is not there: files for LiteRT are written by a converter in an environment of its own. Build it with "
            f"`make litert` in edgeward's folder; elsewhere name its Python in the environment variable {PYTHON}."
        )
    return str(python)


def write(
    program: torch.export.ExportedProgram,
    cfg: Port,  # noqa: ARG001 - it has no keys
    properties: Mapping[str, Any],
    path: Path,
) -> Mapping[str, int]:
    """Write a program as a file of LiteRT; return its operators.

    Parameters
    ----------
    properties : go into the file's metadata ``edgeward``, as JSON.

    Raises
    ------
    Unportable
        If the program has no such form.
    UserError
        If the converter's environment is not there.
    """
    python = converter()
    try:
        whole = edited(program)
    except UserError as error:
        raise Unportable(f"LiteRT cannot take the program: {error}") from error
    convert(python, whole, path)
    stamp(path, properties)
    try:
        operators = Engine({}).operators(str(path), fused=False)
    except AgentError as error:
        raise Unportable(
            f"LiteRT cannot open the file that its converter wrote: {error}"
        ) from error
    kinds = {
        kind.__name__ for op in operators if op["op_name"] in LAYERS for kind in op["operand_types"]
    }
    if properties["precision"] == "int8" and "int8" not in kinds:
        raise Unportable("LiteRT's converter left every layer of the INT8 program in float")
    return Counter(op["op_name"] for op in operators)


def edited(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Return a program as the converter takes it."""
    return of_one_image(program, _edit)


def convert(python: str, program: torch.export.ExportedProgram, path: Path) -> None:
    """Convert a program in the other environment."""
    with tempfile.TemporaryDirectory(prefix="edgeward-litert-") as folder:
        source = Path(folder) / "program.pt2"
        torch.export.save(program, source)
        command = [python, str(Path(__file__).with_name("convert.py")), str(source), str(path)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or [f"it ended with status {ended.returncode}"]
        raise Unportable(f"LiteRT cannot take the program: {said[-1]}")


def _edit(module: GraphModule) -> None:
    float_where_no_integers(module)
    for node in list(module.graph.nodes):
        if node.target is aten.softplus.default and not (node.args[1:] or node.kwargs):
            node.target = _softplus
        elif is_pair(node, "dequantize") and "per_channel" in str(node.target):
            _unfolded(module, node)
        elif is_pair(node, "quantize") and getattr(node.args[0], "target", None) in FIXED:
            for half in (node, *node.users):
                half.args = (half.args[0], *FIXED[node.args[0].target], *half.args[3:])


def _softplus(x: Tensor) -> Tensor:
    """max(x, 0) + log(1 + exp(-|x|)); |x| is 2 max(x, 0) - x, since max alone keeps the range of x."""
    positive = x.relu()
    return positive + torch.log(1 + torch.exp(x - 2 * positive))


def _unfolded(module: GraphModule, node: Node) -> None:
    """Write integer weights as float ones that are quantized and dequantized."""
    how = node.args[1:]
    arguments = [tensor_at(module, a) if isinstance(a, Node) else a for a in node.args]
    value = node.target(*arguments)
    with module.graph.inserting_before(node):
        weights = constant(module, node, value)
        quantize = torch.ops.quantized_decomposed.quantize_per_channel.default
        levels = module.graph.call_function(quantize, (weights, *how))
    node.args = (levels, *how)
