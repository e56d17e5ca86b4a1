"""The operators of a network that may run in integers, as pieces to time, and the tensors between them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch.fx import GraphModule, Node

from edgeward.compression.constraint.placement import place
from edgeward.compression.placing.cut import Flow, Problem
from edgeward.compression.quantizer import QUANTIZER
from edgeward.runtimes.base import Form, Piece, Shape

MOVES = ("quantize", "dequantize")
KINDS = {
    "conv2d": "conv", "conv3d": "conv", "linear": "linear", "add": "add", "mul": "mul", "cat": "cat",
    "max_pool2d": "max_pool", "max_pool3d": "max_pool",
    "upsample_nearest2d": "upsample", "upsample_nearest3d": "upsample",
}  # fmt: skip
# Activations that are computed where the operator before them is; those that an engine takes in stand in `QUANTIZER.absorbed`.
ACTIVATIONS = {
    "relu": "relu", "relu6": "clip", "hardtanh": "clip", "hardswish": "hardswish", "hardsigmoid": "hardsigmoid",
    "silu": "silu", "gelu": "gelu", "sigmoid": "sigmoid",
}  # fmt: skip
# What only changes the shape of a tensor: its reader is a reader of the tensor before.
VIEWS = {
    "view", "reshape", "permute", "transpose", "contiguous", "flatten", "unsqueeze", "squeeze", "clone", "dropout",
    "alias", "detach", "to", "slice",
}  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """An operator, and the activation that goes with it.

    Attributes
    ----------
    name : of its node. last : of the node whose result others read. inputs : nodes whose results it reads, views looked through.
    """

    name: str
    last: str
    inputs: tuple[str, ...]
    piece: Piece


@dataclass(frozen=True)
class Tensor:
    """What flows between operators, in the shape that is converted.

    Attributes
    ----------
    producer : number of the unit whose form it has; None: it is float. readers : of the units.
    made_plain, read_plain : whether in float it is made, or read by all, outside of the engine's layout.
    """

    shape: Shape
    producer: int | None
    readers: tuple[int, ...]
    float_reader: bool
    made_plain: bool
    read_plain: bool


@dataclass(frozen=True)
class Network:
    """Units in the order of the graph, and the tensors that one of them reads or makes.

    Attributes
    ----------
    after : pairs of units, of which the first can only be in integers if the second is.
    """

    units: tuple[Unit, ...]
    tensors: tuple[Tensor, ...]
    after: tuple[tuple[int, int], ...]

    @property
    def asked(self) -> list[tuple[Piece, Form]]:
        """What is to be timed, in the order that `problem` takes the times."""
        units = [unit.piece for unit in self.units]
        moved = [_conversion(kind, t) for t in self.tensors for kind in MOVES]
        bare = [_bare(kind, t) for t in self.tensors if self._ends_in_float(t) for kind in MOVES]
        return [
            *((piece, "float") for piece in units),
            *((piece, "int") for piece in units),
            *((piece, "int") for piece in dict.fromkeys([*moved, *bare])),
        ]

    def _ends_in_float(self, tensor: Tensor) -> bool:
        """Tell the result of an operator whose integer form computes its activation in float, between two conversions."""
        return tensor.producer is not None and not self.units[tensor.producer].piece.absorbed

    def problem(self, us: Sequence[float]) -> Problem:
        """Return the times as a problem of placement.

        Parameters
        ----------
        us : time of each of `asked`, microseconds.
        """
        times = dict(zip(self.asked, us, strict=True))

        def to_float(tensor: Tensor) -> float:
            whole = times[_conversion("dequantize", tensor), "int"]
            if not self._ends_in_float(tensor):
                return whole
            # It is float already: the layout changes, and the last conversion of its integer form is not made.
            return max(0.0, whole - sum(times[_bare(kind, tensor), "int"] for kind in MOVES))

        return Problem(
            floats=tuple(times[unit.piece, "float"] for unit in self.units),
            integers=tuple(times[unit.piece, "int"] for unit in self.units),
            flows=tuple(
                Flow(
                    *(t.producer, t.readers, t.float_reader),
                    *(times[_conversion("quantize", t), "int"], to_float(t)),
                )
                for t in self.tensors
            ),
            after=self.after,
        )


def _bare(kind: str, tensor: Tensor) -> Piece:
    """Return a conversion alone, between no neighbours."""
    shape = _flat(tensor.shape)
    return Piece(kind, (shape,), shape)


def _conversion(kind: str, tensor: Tensor) -> Piece:
    plain = (tensor.made_plain, False) if kind == "quantize" else (False, tensor.read_plain)
    return Piece(kind, (tensor.shape,), tensor.shape, plain=plain)


def read_network(
    graph: GraphModule, keep_float: Sequence[str], plain: frozenset[str] = frozenset()
) -> Network:
    """Find the operators that the engine has integer kernels for, whatever they take.

    Parameters
    ----------
    graph : as `backend.capture` gives it. keep_float : modules that stay float. plain : as of the `Runtime`.
    """
    candidates = place(graph, keep_float, floating=()).integer
    nodes = {node.name: node for node in graph.graph.nodes}
    units: list[Unit] = []
    absorbed = {n.name for n in graph.graph.nodes if n.target in QUANTIZER.absorbed}
    for node in graph.graph.nodes:
        kind = KINDS.get(_name(node))
        if node.name in candidates and kind is not None:
            units.append(_unit(node, kind, absorbed, place_of_outputs=candidates))
    made_by = {unit.last: number for number, unit in enumerate(units)}
    inside = {unit.name for unit in units} | {unit.last for unit in units}
    readers: dict[str, list[int]] = {}
    for number, unit in enumerate(units):
        for source in unit.inputs:
            readers.setdefault(source, []).append(number)
    float_readers = {
        _root(source).name
        for node in graph.graph.nodes
        if node.name not in inside and not _is_view(node) and _name(node) != "sym_size"
        for source in node.all_input_nodes
    }
    broadcasts = [
        "broadcast" in plain and u.piece.kind in ("add", "mul") and len({*u.piece.inputs}) > 1
        for u in units
    ]
    made_plain = {
        unit.last: alone or (not unit.piece.absorbed and unit.piece.behind[0] in plain)
        for unit, alone in zip(units, broadcasts, strict=True)
    }
    read_plain = {name: all(broadcasts[reader] for reader in mine) for name, mine in readers.items()}  # fmt: skip
    for number, unit in enumerate(units):
        into = (broadcasts[number] and made_plain.get(name, False) for name in unit.inputs)
        out = made_plain[unit.last] and read_plain.get(unit.last, False)
        ends = (*into, out)
        if any(ends):
            units[number] = replace(unit, piece=replace(unit.piece, plain=ends))
    tensors: list[Tensor] = []
    for name in dict.fromkeys([*made_by, *readers]):
        maker = made_by.get(name)
        made = None if maker is None else units[maker]
        floats = made is None or made.piece.floats
        mine = tuple(dict.fromkeys(readers.get(name, ())))
        if floats and not mine:
            continue
        near = [units[number] for number in mine] + ([made] if made else [])
        flat = all(one.piece.kind == "linear" for one in near)
        shape = _shape(nodes[name])
        tensors.append(
            Tensor(
                _flat(shape) if flat else shape,
                None if floats else maker,
                mine,
                name in float_readers,
                made_plain.get(name, False),
                read_plain.get(name, False),
            )
        )
    after = [
        (number, made_by[unit.inputs[0]])
        for number, unit in enumerate(units)
        if unit.piece.kind in ("max_pool", "upsample")
        and unit.inputs[0] in made_by
        and not any(_name(user) == "cat" for user in nodes[unit.name].users)
    ]
    return Network(tuple(units), tuple(tensors), tuple(after))


def _unit(node: Node, kind: str, absorbed: set[str], place_of_outputs: frozenset[str]) -> Unit:
    last, behind = node, ()
    users = list(node.users)
    if len(users) == 1 and _name(users[0]) in ACTIVATIONS and kind not in ("max_pool", "upsample"):
        last, behind = users[0], _behind(users[0])
    taken_in = last.name in absorbed and last.name in place_of_outputs
    sources = node.args[0] if kind == "cat" else node.args[: 2 if kind in ("add", "mul") else 1]
    shapes = [_shape(source) for source in sources]
    output, settings = _shape(node), dict(_settings(node, kind))
    if kind == "linear":
        shapes, output = [_flat(s) for s in shapes], _flat(output)
    piece = Piece(
        kind=kind,
        inputs=tuple(shapes),
        output=output,
        settings=tuple(sorted(settings.items())),
        behind=behind,
        absorbed=taken_in or not behind,
        floats=(kind == "linear" and len(output) > 2) or all(u.op == "output" for u in users),
    )
    return Unit(node.name, last.name, tuple(_root(s).name for s in sources), piece)


def _settings(node: Node, kind: str) -> Iterator[tuple[str, Any]]:
    """Give what the time of an operator depends on besides its shapes."""
    sides = len(_shape(node)) - 2
    args = _arguments(node)

    def each(name: str, default: Any) -> tuple[int, ...]:
        value = args.get(name, default)
        value = list(value) if isinstance(value, (list, tuple)) else [value]
        return tuple(int(v) for v in (value * sides if len(value) == 1 else value))

    if kind in ("conv", "linear"):
        yield "weight", _shape(args["weight"], batch=False)
        yield "bias", args.get("bias") is not None
    if kind == "conv":
        yield "stride", each("stride", 1)
        yield "dilation", each("dilation", 1)
        yield "groups", int(args.get("groups", 1))
        if isinstance(args.get("padding"), str):
            kernel = _shape(args["weight"], batch=False)[2:]
            same = args["padding"] == "same"
            reach = zip(kernel, each("dilation", 1), strict=True)
            yield "padding", tuple((k - 1) * d // 2 if same else 0 for k, d in reach)
        else:
            yield "padding", each("padding", 0)
    if kind == "max_pool":
        kernel = each("kernel_size", 1)
        yield "kernel", kernel
        yield "stride", each("stride", kernel) if args.get("stride") else kernel
        yield "padding", each("padding", 0)
        yield "dilation", each("dilation", 1)
        yield "ceil", int(bool(args.get("ceil_mode", False)))
    if kind == "cat":
        yield "axis", 1


def _arguments(node: Node) -> dict[str, Any]:
    """Return the arguments of an operator by their names."""
    names = [argument.name for argument in node.target._schema.arguments]
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def _behind(node: Node) -> tuple[Any, ...]:
    name = _name(node)
    if name == "relu6":
        return ("clip", 0.0, 6.0)
    if name == "hardtanh":
        args = _arguments(node)
        return ("clip", float(args.get("min_val", -1)), float(args.get("max_val", 1)))
    return (ACTIVATIONS[name],)


def _name(node: Node) -> str:
    """Return the plain name of an operator: ``relu`` of ``aten.relu_.default``."""
    named = getattr(getattr(node.target, "overloadpacket", None), "__name__", "")
    return named.rstrip("_")


def _is_view(node: Node) -> bool:
    return _name(node) in VIEWS


def _root(node: Node) -> Node:
    """Return the node whose values these are."""
    while _is_view(node):
        node = node.args[0]
    return node


def _shape(node: Any, batch: bool = True) -> Shape:
    """Return the shape of a node's result, of one image; of a parameter (`batch` is false) as it is."""
    first, *rest = node.meta["val"].shape
    return (1 if batch else int(first), *(int(side) for side in rest))


def _flat(shape: Shape) -> Shape:
    """Return the shape of tokens: a linear layer reads all dimensions but the last alike."""
    return shape if len(shape) < 4 else (1, math.prod(shape[1:-1]), shape[-1])
