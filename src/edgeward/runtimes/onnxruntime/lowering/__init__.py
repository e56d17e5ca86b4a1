"""From our recurrences, one node each in an exported program, to operators that engines know.

A torch operator of the namespace ``edgeward`` passes through ``torch.onnx.export`` as one
placeholder node of the ONNX domain ``edgeward`` (`translations`). Afterwards `lower` replaces every
placeholder by nodes of the form that the config asks for. No placeholder survives. It also writes
Softplus, which every selective model applies to its step sizes, in operators that engines vectorise.

A module of this package lowers one operator. It has ``TORCH_OP`` (name in the namespace),
``ATTRIBUTES`` (what follows its tensors, in order), ``schema()`` (of the placeholder), and
``lower(site, cfg)``, which adds the nodes in place of it to the site.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import onnxscript
import torch
from onnx import helper, numpy_helper

from edgeward.runtimes.onnxruntime.config import RecurrenceConfig

READS = ("*.py", "../../../models/ssm/*.py")  # loaded by name: see edgeward.pipeline.closure
DOMAIN = "edgeward"
OPERATORS = ("gated", "selective")
# Values from which 17 vectorised nodes beat one scalar one: 0.7 of its time at 1024, 0.3 at 8192.
MANY = 1024
VERSIONS = {"com.microsoft": 1}


@dataclass
class Site:
    """A placeholder in its graph, and the nodes that take its place so far.

    ``shapes`` gives the static sizes of its inputs, -n for n times the batch.
    """

    node: onnx.NodeProto
    shapes: dict[str, list[int]]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    @property
    def attributes(self) -> dict[str, Any]:
        return {a.name: helper.get_attribute_value(a) for a in self.node.attribute}

    def name(self, suffix: str) -> str:
        return f"{self.node.output[0]}.{suffix}"

    def constant(self, suffix: str, value: np.ndarray) -> str:
        """Add an initializer; return its name."""
        name = self.name(suffix)
        if all(tensor.name != name for tensor in self.constants):
            self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def add(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str | Sequence[str],
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Append a node; return the name of its (first) output. Outputs are suffixes."""
        outputs = [output] if isinstance(output, str) else list(output)
        names = [o if o in self.node.output else self.name(o) for o in outputs]
        node = helper.make_node(
            operator, list(inputs), names, name=names[0], domain=domain, **attributes
        )
        node.metadata_props.extend(self.node.metadata_props)
        self.nodes.append(node)
        return names[0]

    def zeros(self, shape: str, output: str) -> str:
        """Append float32 zeros of a shape that is known when the model runs; return their name."""
        zero = helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [0.0])
        return self.add("ConstantOfShape", [shape], output, value=zero)


def _modules() -> list[Any]:
    return [import_module(f"{__name__}.{name}") for name in OPERATORS]


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return torch operator -> function that writes its placeholder, for ``torch.onnx.export``."""
    table: dict[Callable[..., Any], Callable[..., Any]] = {}
    for module in _modules():
        import_module(f"edgeward.models.ssm.{module.__name__.rsplit('.', 1)[1]}")
        schema = module.schema()
        if not onnx.defs.has(schema.name, DOMAIN):
            onnx.defs.register_schema(schema)
        write = getattr(onnxscript.values.Opset(DOMAIN, 1), schema.name)
        count, names = len(schema.inputs), module.ATTRIBUTES

        def translate(*args: Any, write: Any = write, n: int = count, names: Any = names) -> Any:
            return write(*args[:n], **dict(zip(names, args[n:], strict=True)))

        table[getattr(torch.ops.edgeward, module.TORCH_OP).default] = translate
    table[torch.ops.aten.softplus.default] = import_module(f"{__name__}.softplus").translate
    return table


def _shapes(graph: onnx.GraphProto) -> dict[str, list[int]]:
    found = {}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        found[value.name] = [_dim(dim) for dim in value.type.tensor_type.shape.dim]
    for tensor in graph.initializer:
        found[tensor.name] = list(tensor.dims)
    return found


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int:
    """Return a size; ``256*batch`` gives -256."""
    if not dim.dim_param:
        return dim.dim_value
    return -math.prod(int(number) for number in re.findall(r"\b\d+\b", dim.dim_param))


def _size(shape: list[int]) -> int:
    """Return the number of values for one image."""
    return math.prod(abs(size) for size in shape)


def lower(model: onnx.ModelProto, cfg: RecurrenceConfig) -> None:
    """Replace every placeholder of `model`, in place, by the form that `cfg` asks for."""
    if any(node.op_type == "GatedScan" for node in model.graph.node) and cfg.gated == "opset27":
        model.CopyFrom(onnx.version_converter.convert_version(model, 27))
    graph = model.graph
    by_name = {module.schema().name: module for module in _modules()}
    shapes = _shapes(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.domain == DOMAIN:
            site = Site(node, {name: shapes[name] for name in node.input})
            by_name[node.op_type].lower(site, cfg)
        elif node.op_type == "Softplus" and _size(shapes[node.input[0]]) >= MANY:
            site = Site(node, {})
            import_module(f"{__name__}.softplus").lower(site)
        else:
            nodes.append(node)
            continue
        nodes += site.nodes
        graph.initializer.extend(site.constants)
    del graph.node[:]
    graph.node.extend(nodes)
    imported = {entry.domain: entry.version for entry in model.opset_import}
    imported.pop(DOMAIN, None)
    for domain in {node.domain for node in nodes} - set(imported):
        imported[domain] = VERSIONS[domain]
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(d, v) for d, v in imported.items())
