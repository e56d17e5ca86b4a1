"""Which tensors an integer graph quantizes when some modules stay float, and what that would cost.

Nothing is prepared or converted for it: the quantizer's annotations say it, in milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch.fx import GraphModule, Node

from edgeward.compression.quantizer import QUANTIZER
from edgeward.compression.schemes import ptq_specs
from edgeward.runtimes.quantizer import ANNOTATION, module_names, tensor_at

# What can be put back to float; activations go with what they are fused into.
COMPUTING = QUANTIZER.weighted | QUANTIZER.elementwise


@dataclass(frozen=True)
class Placement:
    """Where the quantizer puts its pairs.

    Attributes
    ----------
    tensors : names of the nodes whose result (or value) is quantized.
    integer : names of the nodes that run in integers.
    of_module : module name -> the tensors that its layers, sums and products quantize.
    of_node : the same of single nodes, of every kind.
    """

    tensors: frozenset[str]
    integer: frozenset[str]
    of_module: dict[str, frozenset[str]]
    of_node: dict[str, frozenset[str]]


def place(
    graph: GraphModule, keep_float: Sequence[str], floating: Collection[str] | None = None
) -> Placement:
    """Annotate `graph` with some modules and nodes kept float; the graph itself is left without annotations."""
    specs = ptq_specs("minmax", False)
    quantizer = QUANTIZER(*specs, keep_float=keep_float, floating=floating)
    quantizer.annotate(graph)
    tensors: set[str] = set()
    integer: set[str] = set()
    of_module: dict[str, set[str]] = {}
    of_node: dict[str, frozenset[str]] = {}
    for node in graph.graph.nodes:
        annotation = node.meta.get(ANNOTATION)
        if annotation is None:
            continue
        mine = {source.name for source in annotation.input_qspec_map}
        if annotation.output_qspec is not None:
            mine.add(node.name)
        if node.target in COMPUTING:
            # Behind an activation that is fused into the layer, the pair stands on its result.
            mine |= {
                u.name
                for u in node.users
                if u.target in QUANTIZER.absorbed and ANNOTATION in u.meta
            }
            for name in module_names(node):
                of_module.setdefault(name, set()).update(mine)
        of_node[node.name] = frozenset(mine)
        integer.add(node.name)
        tensors |= mine
    for node in graph.graph.nodes:
        node.meta.pop(ANNOTATION, None)
    return Placement(
        frozenset(tensors),
        frozenset(integer),
        {name: frozenset(found) for name, found in of_module.items()},
        of_node,
    )


def units(graph: GraphModule, keep_float: Sequence[str]) -> list[str]:
    """Return the modules that can be put back to float one by one.

    Every module in which an integer operator was traced: layers, and blocks that add or multiply
    activations themselves (of which everything goes back). Not those that hold all layers.
    """
    integer = place(graph, keep_float).integer
    nodes = [n for n in graph.graph.nodes if n.name in integer and n.target in COMPUTING]
    layers = [set(module_names(node)) for node in nodes if node.target in QUANTIZER.weighted]
    everything = set.intersection(*layers) if len(layers) > 1 else set()
    found: dict[str, None] = {}
    for node in nodes:
        names = [name for name in module_names(node) if name]
        if names and names[-1] not in everything:
            found.setdefault(names[-1])
    return list(found)


def cost(
    graph: GraphModule, placement: Placement, *, int8_speedup: float, conversion: float
) -> float:
    """Estimate the latency of one image, in units of one million float multiply-accumulates.

    A layer takes its multiply-accumulates, divided by `int8_speedup` if it runs in integers; every
    element that is converted between float and integer takes `conversion` of them. A tensor is
    converted to integers if its producer runs in float, and back if one of its readers does. What is
    neither a convolution nor a linear layer counts nothing.
    """
    total = 0.0
    for node in graph.graph.nodes:
        if node.target in QUANTIZER.weighted:
            integer = node.name in placement.integer
            total += macs(graph, node) / (int8_speedup if integer else 1.0)
        if node.op == "get_attr" or node.name not in placement.tensors:
            continue
        to_integer = node.name not in placement.integer
        to_float = any(user.name not in placement.integer for user in node.users)
        total += conversion * (to_integer + to_float) * _elements(node)
    return total / 1e6


def macs(graph: GraphModule, node: Node) -> float:
    """Return the multiply-accumulates of a convolution or linear layer for one image."""
    weight = tensor_at(graph, node.args[1])
    return _elements(node) * weight[0].numel()


def _elements(node: Node) -> float:
    """Return the elements of a node's result for one image; the batch is the first dimension."""
    return float(math.prod(int(size) for size in node.meta["val"].shape[1:]))
