"""Make the quantized graph say exactly what integer kernels compute."""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from edgeward.compression.quantizer import QUANTIZER
from edgeward.runtimes.quantizer import tensor_at

# Largest magnitude of an int32 bias; the other half of the range is left to the products.
BIAS_LIMIT = 2**30


def quantize_biases(graph: GraphModule) -> int:
    """Hold the bias of every integer layer as int32 in units of (input scale x weight scale).

    Integer kernels add the bias to the accumulator (Jacob et al. 2018, "Quantization and Training of
    Neural Networks for Efficient Integer-Arithmetic-Only Inference", eq. 11), so a float bias in
    the graph would say something else than what runs. Where a channel's weights are so small that
    its bias would overflow, the channel's weight scale is enlarged first: what such weights lose
    is below one part in 2^30 of the bias. A linear layer on more than two dimensions runs as a
    matrix product whose bias is added in float, and keeps it.

    Parameters
    ----------
    graph : as `backend.convert` returns it; changed in place.

    Returns
    -------
    Number of channels whose scale was enlarged.
    """
    enlarged = 0
    for node in list(graph.graph.nodes):
        if node.target not in QUANTIZER.weighted or len(node.args) < 3 or node.args[2] is None:
            continue
        source, weight, bias = node.args[:3]
        if not (calls(source, "dequantize_per_tensor") and calls(weight, "dequantize_per_channel")):
            continue
        if node.target is torch.ops.aten.linear.default and node.meta["val"].dim() != 2:
            continue
        integers, scales = tensor_at(graph, weight.args[0]), tensor_at(graph, weight.args[1])
        values, input_scale = tensor_at(graph, bias).detach(), float(source.args[1])
        enlarged += _enlarge(integers, scales, values.abs() / (input_scale * BIAS_LIMIT))
        unit = scales.double() * input_scale
        rounded = (values.double() / unit).round().to(torch.int32)
        _replace_bias(graph, node, rounded, unit.float())
    graph.graph.lint()
    graph.recompile()
    return enlarged


def _enlarge(integers: torch.Tensor, scales: torch.Tensor, least: torch.Tensor) -> int:
    small = scales < least
    if small.any():
        new = torch.where(small, least.to(scales.dtype), scales)
        ratio = (scales / new).view(-1, *[1] * (integers.dim() - 1))
        integers.copy_((integers * ratio).round().to(integers.dtype))
        scales.copy_(new)
    return int(small.sum())


def _replace_bias(
    graph: GraphModule, node: Node, integers: torch.Tensor, scales: torch.Tensor
) -> None:
    name = f"{node.name}_bias"
    buffers = {
        f"{name}_int": integers,
        f"{name}_scale": scales,
        f"{name}_zero": torch.zeros(len(integers), dtype=torch.int64),
    }
    with graph.graph.inserting_before(node):
        for key, value in buffers.items():
            graph.register_buffer(key, value)
        parts = [graph.graph.get_attr(key) for key in buffers]
        limits = torch.iinfo(torch.int32)
        bias = graph.graph.call_function(
            torch.ops.quantized_decomposed.dequantize_per_channel.default,
            (*parts, 0, limits.min, limits.max, torch.int32),
        )
    node.args = (*node.args[:2], bias, *node.args[3:])


def calls(value: object, name: str) -> bool:
    """Tell whether a value is a node whose operator has this in its name."""
    return isinstance(value, Node) and name in str(value.target)
