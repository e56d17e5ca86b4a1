"""``model.pt2`` as converters of other engines take it: one image, signed integers, standard operators.

One calibration serves every engine: scales and ranges are those of the program, and only their notation changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule, Node

from edgeward.core.errors import UserError
from edgeward.models.program import export_program
from edgeward.models.ssm.gated import gated_scan
from edgeward.runtimes.quantizer import tensor_at
from edgeward.runtimes.recurrence import Gated

aten = torch.ops.aten
PAIRS = "quantized_decomposed"
OFFSET = 128  # from uint8 to int8
PRODUCTS = {
    aten.conv1d.default, aten.conv2d.default, aten.conv2d.padding, aten.conv3d.default, aten.conv3d.padding,
    aten.linear.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input,
}  # fmt: skip
FUSED = {
    aten.relu.default, aten.relu_.default, aten.hardtanh.default, aten.hardtanh_.default, aten.relu6.default,
    aten.relu6_.default,
}  # fmt: skip
GATED = gated_scan._opoverload


def is_pair(node: object, kind: str) -> bool:
    """Tell whether a node is a ``quantize`` or a ``dequantize``."""
    return isinstance(node, Node) and str(node.target).startswith(f"{PAIRS}.{kind}_per_")


def of_one_image(
    program: torch.export.ExportedProgram, edit: Callable[[GraphModule], None]
) -> torch.export.ExportedProgram:
    """Return a program for one image with signed activations, float biases and no operator of edgeward.

    Parameters
    ----------
    edit : what an engine wants besides; changes the graph in place.

    Raises
    ------
    UserError
        If an operator of edgeward has no form in standard ones.
    """
    module: Any = program.module(check_guards=False)
    graph = module.graph
    image = next(node for node in graph.nodes if node.op == "placeholder").meta["val"]
    for node in list(graph.nodes):
        if is_pair(node, "quantize") or is_pair(node, "dequantize"):
            _signed(node)
            source = node.args[0]
            if source.op == "get_attr" and tensor_at(module, source).dtype == torch.int32:
                folded(module, node)  # a bias
        elif node.target is GATED:
            _in_products(module, node)
        elif getattr(node.target, "namespace", "") == "edgeward":
            raise UserError(f"{node.target} has no form in standard operators")
    edit(module)
    graph.eliminate_dead_code()
    module.recompile()
    sides = [side if isinstance(side, int) else 1 for side in image.shape]
    with torch.no_grad():
        return torch.export.export(module, (torch.zeros(sides),))


def in_products(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Return a program, of a dynamic batch, with its gated recurrences in matrix products; itself if it has none."""
    module: Any = program.module(check_guards=False)
    gated = [node for node in module.graph.nodes if node.target is GATED]
    if not gated:
        return program
    for node in gated:
        _in_products(module, node)
    module.recompile()
    image = next(node for node in module.graph.nodes if node.op == "placeholder").meta["val"]
    return export_program(module, torch.zeros(2, *image.shape[1:]))


def _in_products(module: GraphModule, node: Node) -> None:
    """Write a recurrence in matrix products; those of one shape share their constants."""
    *tensors, heads, groups = node.args
    length = int(tensors[2].meta["val"].shape[1])
    name = f"gated_{length}_{heads}_{groups}"
    if not hasattr(module, name):
        module.add_submodule(name, Gated(length, heads, groups))
    with module.graph.inserting_before(node):
        node.replace_all_uses_with(module.graph.call_module(name, tuple(tensors)))
    module.graph.erase_node(node)


def _signed(node: Node) -> None:
    """Write a pair of activations in int8 that was in uint8."""
    if "per_tensor" in str(node.target) and node.args[5] == torch.uint8:
        source, scale, zero, low, high, _ = node.args
        places = (zero - OFFSET, low - OFFSET, high - OFFSET)
        node.args = (source, scale, *places, torch.int8)


def folded(module: GraphModule, node: Node) -> Node:
    """Put what a node computes of constants in its place; return the constant."""
    arguments = [tensor_at(module, a) if isinstance(a, Node) else a for a in node.args]
    value = node.target(*arguments)
    found = constant(module, node, value.detach().contiguous())
    node.replace_all_uses_with(found)
    module.graph.erase_node(node)
    return found


def constant(module: GraphModule, node: Node, value: torch.Tensor) -> Node:
    """Add a constant before a node, with what is noted of that; return it."""
    name = f"constant_{node.name}"
    module.register_buffer(name, value)
    with module.graph.inserting_before(node):
        found = module.graph.get_attr(name)
    found.meta = dict(node.meta)
    return found


def float_where_no_integers(module: GraphModule) -> None:
    """Fold the integer weights of layers that XNNPACK cannot compute in integers, as their input or result is none."""
    for node in list(module.graph.nodes):
        if node.target not in PRODUCTS or not is_pair(node.args[1], "dequantize"):
            continue
        if not is_pair(node.args[0], "dequantize") or not _gives_integers(node):
            folded(module, node.args[1])


def _gives_integers(layer: Node) -> bool:
    """Tell whether the only reader of a layer, behind an activation that is fused into it, quantizes its result."""
    users = list(layer.users)
    if len(users) == 1 and users[0].target in FUSED:
        users = list(users[0].users)
    return len(users) == 1 and is_pair(users[0], "quantize")
