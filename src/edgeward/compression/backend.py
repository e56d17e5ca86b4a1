"""The way from a float module to an integer graph: neural-compressor and torchao.

neural-compressor 3.10 prepares and leads through calibration; its own placement of
quantize/dequantize pairs is made for TorchInductor, so ours is put in at the one place where it
chooses a quantizer (`W8A8PT2EQuantizer.update_quantizer_based_on_quant_config`). Its `convert`
drops `fold_quantize` and so ships weights in float; torchao's `convert_pt2e`, which it wraps, is
called directly. Training with fake quantization is torchao's alone, since neural-compressor's
covers only MX formats of linear layers; graph, placement and conversion are the same.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import neural_compressor.torch.quantization as inc
import torch
from neural_compressor.torch.algorithms.pt2e_quant.core import W8A8PT2EQuantizer
from torch import nn
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import Quantizer

from edgeward.compression.quantizer import QUANTIZER
from edgeward.compression.schemes import Granularity, Observer, ptq_specs, qat_specs
from edgeward.core.errors import UserError
from edgeward.models.program import dynamic_batch, export_program
from edgeward.runtimes.quantizer import module_names, tensor_at

HOOK = "update_quantizer_based_on_quant_config"
PACKAGES = ("torch", "torchao", "neural-compressor")

logger = logging.getLogger(__name__)


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that quantize."""
    return {name.replace("-", "_"): importlib.metadata.version(name) for name in PACKAGES}


def capture(module: nn.Module, example: torch.Tensor) -> GraphModule:
    """Export an eager module for quantization, in eval mode, with a dynamic batch.

    What neural-compressor's `export` does, without its first attempt in strict mode, which traces the
    bytecode and takes five times as long. Dropout is taken out, since compressed models are tuned
    without it; a batch norm that no layer could absorb becomes a product and a sum, since torchao
    would search the whole graph for it in vain, for minutes.

    Parameters
    ----------
    example : float32 (b >= 2, c, *spatial), of the size that the model will see.
    """
    program = export_program(module, example)
    graph: GraphModule = program.module()
    for node in list(graph.graph.nodes):
        if node.target in (torch.ops.aten.dropout.default, torch.ops.aten.dropout_.default):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
        elif node.target is torch.ops.aten.batch_norm.default:
            _to_affine(graph, node)
    graph.recompile()
    return graph


def _to_affine(graph: GraphModule, node: Node) -> None:
    """Write an eval-mode batch norm as ``x * scale + shift``, per channel."""
    source, weight, bias, mean, variance = node.args[:5]
    scale = (tensor_at(graph, variance) + node.args[7]).rsqrt()
    if weight is not None:
        scale = scale * tensor_at(graph, weight).detach()
    shift = -tensor_at(graph, mean) * scale
    if bias is not None:
        shift = shift + tensor_at(graph, bias).detach()
    shape = (-1, *[1] * (node.meta["val"].dim() - 2))
    with graph.graph.inserting_before(node):
        value: Node = source
        for operator, name, tensor in (
            (torch.ops.aten.mul.Tensor, f"{node.name}_scale", scale),
            (torch.ops.aten.add.Tensor, f"{node.name}_shift", shift),
        ):
            graph.register_parameter(name, nn.Parameter(tensor.reshape(shape).clone()))
            constant = graph.graph.get_attr(name)
            value = graph.graph.call_function(operator, (value, constant))
            value.meta = dict(node.meta)
            constant.meta["val"] = tensor_at(graph, constant).detach()
    node.replace_all_uses_with(value)
    graph.graph.erase_node(node)


def prepare_ptq(
    graph: GraphModule,
    example: torch.Tensor,
    *,
    observer: Observer,
    reduce_range: bool,
    granularity: Granularity,
    keep_float: Sequence[str],
    floating: Collection[str] | None = None,
) -> GraphModule:
    """Insert observers by neural-compressor's `prepare`, placed by our quantizer.

    Exclusions of modules travel as neural-compressor's own `set_local` entries; it has none for single nodes (`floating`, see
    `EngineQuantizer`).
    """
    config = inc.StaticQuantConfig()
    for name in keep_float:
        config.set_local(name, inc.StaticQuantConfig(w_dtype="fp32", act_dtype="fp32"))

    def choose(quant_config: Any) -> Quantizer:
        _, by_name = quant_config._get_op_name_op_type_config()
        excluded = [name for name, local in by_name.items() if local.w_dtype == "fp32"]
        specs = ptq_specs(observer, reduce_range, granularity)
        return QUANTIZER(*specs, keep_float=excluded, floating=floating)

    # The marks by which neural-compressor knows its own exports.
    graph._exported = True
    graph.dynamic_shapes = dynamic_batch()
    with _choosing(choose):
        return inc.prepare(graph, config, example_inputs=(example,))


def prepare_qat(
    graph: GraphModule,
    *,
    momentum: float,
    reduce_range: bool,
    granularity: Granularity,
    keep_float: Sequence[str],
    floating: Collection[str] | None = None,
) -> GraphModule:
    """Insert fake quantization at the same places, for training."""
    specs = qat_specs(momentum, reduce_range, granularity)
    return prepare_qat_pt2e(graph, QUANTIZER(*specs, keep_float=keep_float, floating=floating))


def convert(prepared: GraphModule) -> GraphModule:
    """Turn observed ranges into quantize/dequantize pairs and weights into int8.

    Float weights that nothing reads any more are dropped.
    """
    converted: GraphModule = convert_pt2e(prepared, fold_quantize=True)
    used = {str(node.target) for node in converted.graph.nodes if node.op == "get_attr"}
    for prefix, owner in converted.named_modules():
        for table in (owner._parameters, owner._buffers):
            for name in list(table):
                if f"{prefix}.{name}".removeprefix(".") not in used:
                    del table[name]
    return converted


def quantized_parameters(converted: GraphModule) -> int:
    """Count the parameters that a converted graph holds as integers: weights and their biases."""
    held = {
        node.args[0]
        for node in converted.graph.nodes
        if node.target is torch.ops.quantized_decomposed.dequantize_per_channel.default
    }
    return sum(converted.get_buffer(node.target).numel() for node in held)


def float_layers(converted: GraphModule) -> list[str]:
    """Name the convolutions and linear layers of a converted graph that stayed float.

    Transposed and one-dimensional convolutions are among them: they always do.
    """
    return sorted(
        module_names(node)[-1]
        for node in converted.graph.nodes
        if node.target in QUANTIZER.weighted | QUANTIZER.always_float
        and "dequantize" not in str(getattr(node.args[1], "target", ""))
    )


@contextmanager
def _choosing(choose: Callable[[Any], Quantizer]) -> Iterator[None]:
    """Let neural-compressor take its quantizer from `choose`."""
    original = W8A8PT2EQuantizer.__dict__.get(HOOK)
    if not isinstance(original, staticmethod):
        raise UserError(
            f"neural-compressor {versions()['neural_compressor']} has no {HOOK}, where edgeward "
            "puts in its placement; 3.10 has it: install the versions of requirements.lock."
        )
    setattr(W8A8PT2EQuantizer, HOOK, staticmethod(choose))
    try:
        yield
    finally:
        setattr(W8A8PT2EQuantizer, HOOK, original)
