"""Which operators are quantized for an engine: what the quantizers of all runtimes offer."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable
from typing import Any, ClassVar

import torch
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantizer import QuantizationSpec, Quantizer

from edgeward.core.errors import unknown

ANNOTATION = "quantization_annotation"
Targets = frozenset[Any]  # of operators in an exported graph


class EngineQuantizer(Quantizer):
    """Puts quantize/dequantize pairs where an engine has integer kernels for them; a runtime adds `annotate`.

    Parameters
    ----------
    activation, weight : what to put on activations and on weights: observers for PTQ, fake
        quantization for QAT (`edgeward.compression.schemes`).
    keep_float : module names as in ``named_modules()``; they and all below them stay float.
    floating : names of nodes of the graph that stay float, where somebody has decided for every single one what is faster; None: the
        rules of the engine decide that.

    Attributes
    ----------
    title : of the placement, for the record of a recipe.
    weighted, always_float : layers whose weights are quantized, and those whose weights never are.
    elementwise : sums and products of two activations.
    absorbed : activations that the engine fuses into the layer before them.
    """

    title: ClassVar[str]
    weighted: ClassVar[Targets]
    always_float: ClassVar[Targets]
    elementwise: ClassVar[Targets]
    absorbed: ClassVar[Targets]

    def __init__(
        self,
        activation: QuantizationSpec,
        weight: QuantizationSpec,
        keep_float: Iterable[str],
        floating: Collection[str] | None = None,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight = weight
        self.keep_float = tuple(keep_float)
        self.floating = floating

    @classmethod
    def saturates(cls) -> bool:
        """Tell whether the engine's integer kernels overflow on this processor with weights of 8 bits."""
        return False

    def validate(self, model: GraphModule) -> None:
        """Accept every graph: what cannot be quantized stays float."""

    def is_kept(self, node: Node) -> bool:
        """Tell whether a node is of a module that stays float, or one that was decided to."""
        decided = self.floating is not None and node.name in self.floating
        return decided or any(name in self.keep_float for name in module_names(node))

    def check_names(self, nodes: Iterable[Node]) -> None:
        """Raise a `UserError` if a name in `keep_float` is no module of the graph."""
        nothing = (
            "_empty_nn_module_stack_from_metadata_hook"  # what torch notes where there is no module
        )
        known = {n for node in nodes for n in module_names(node) if n and n != nothing}
        for name in self.keep_float:
            if name not in known:
                raise unknown("module", name, known, "compress.steps[..].keep_float")


def module_names(node: Node) -> list[str]:
    """Return the names of the modules that a node was traced in, outermost first."""
    stack = node.meta.get("nn_module_stack") or {}
    return [name.removeprefix("L['self']").removeprefix(".") for name, _ in stack.values()]


def tensor_at(graph: GraphModule, node: Node) -> torch.Tensor:
    """Return the parameter or buffer that a ``get_attr`` node reads."""
    tensor: torch.Tensor = functools.reduce(getattr, str(node.target).split("."), graph)
    return tensor
