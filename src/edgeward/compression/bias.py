"""Bias correction: rounding shifts the mean of what a layer gives, and its bias can take that back."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Interpreter, Node

from edgeward.compression.numerics import calls
from edgeward.compression.quantizer import QUANTIZER
from edgeward.runtimes.quantizer import tensor_at


def correct(converted: GraphModule, graph: GraphModule, images: torch.Tensor) -> int:
    """Shift each integer layer's bias so that every channel of its output has the mean that it has in the float network.

    Layer by layer in the order of computation, so that a layer sees what those before it give once corrected: empirical bias correction
    (Nagel, van Baalen, Blankevoort, Welling: Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019, section 4.2
    and appendix D). One pass of either network; no label is looked at.

    Parameters
    ----------
    converted : as `backend.convert` returns it, biases still float; changed in place.
    graph : the float graph that it was made of, as `backend.capture` returns it.
    images : float32 (b, c, *spatial), all in one batch.

    Returns
    -------
    Number of layers whose bias was shifted; layers without a bias are left as they are.
    """
    with torch.no_grad():
        means = _Means(graph)
        means.run(images)
        corrected = _Corrected(converted, means.found)
        corrected.run(images)
    return corrected.n


def _mean(output: torch.Tensor, target: Any) -> torch.Tensor:
    """Return the mean of each channel, which a linear layer has last and a convolution second."""
    channel = output.dim() - 1 if target is torch.ops.aten.linear.default else 1
    return output.double().mean([d for d in range(output.dim()) if d != channel])


class _Means(Interpreter):
    """Runs a graph and keeps the channel means of its layers, by name."""

    def __init__(self, graph: GraphModule) -> None:
        super().__init__(graph)
        self.found: dict[str, torch.Tensor] = {}

    def run_node(self, n: Node) -> Any:
        output = super().run_node(n)
        if n.target in QUANTIZER.weighted:
            self.found[n.name] = _mean(output, n.target)
        return output


class _Corrected(Interpreter):
    """Runs an integer graph and corrects each layer before what follows it is computed."""

    def __init__(self, graph: GraphModule, means: dict[str, torch.Tensor]) -> None:
        super().__init__(graph)
        self.graph_module, self.means, self.n = graph, means, 0

    def run_node(self, n: Node) -> Any:
        output = super().run_node(n)
        integer = n.target in QUANTIZER.weighted and calls(n.args[1], "dequantize")
        if not integer or len(n.args) < 3 or n.args[2] is None or n.name not in self.means:
            return output
        shift = (self.means[n.name] - _mean(output, n.target)).to(output.dtype)
        tensor_at(self.graph_module, n.args[2]).add_(shift)
        self.n += 1
        last = n.target is torch.ops.aten.linear.default
        return output + (shift if last else shift.view(-1, *[1] * (output.dim() - 2)))
