"""Fold what follows a convolution linearly into its weights: batch norm and layer scale.

Who follows whom is read from the exported graph, and the change is made on the modules, so that
names, and with them `keep_float` and checkpoints of later steps, stay what they were.
"""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import nn
from torch.fx import Node
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from edgeward.compression.program import export_program

aten = torch.ops.aten
WEIGHTED = {aten.conv2d.default, aten.conv2d.padding, aten.linear.default}
SKIPPED = {aten.dropout.default, aten.dropout_.default}


def fuse(module: nn.Module, example: torch.Tensor) -> tuple[nn.Module, dict[str, int]]:
    """Return a copy of an eval-mode module without the norms and scales that a layer can absorb.

    A batch norm or a layer scale (``x * gamma``, one gamma per channel) goes into the convolution
    or linear layer before it if it is that layer's only user and both are called once. Repeated
    until nothing is left to fold, so that conv, norm and scale in a row become one.

    Parameters
    ----------
    example : float32 (b >= 2, c, h, w).

    Returns
    -------
    The module, whose outputs equal the original's up to rounding, and how many of each were folded.
    """
    module = copy.deepcopy(module).eval()
    folded: Counter[str] = Counter()
    while True:
        graph = export_program(module, example).module()
        calls = Counter(_owner(node) for node in graph.graph.nodes if node.op == "call_function")
        before = folded.total()
        for node in graph.graph.nodes:
            source = _source(node)
            if source is None or len(source.users) != 1:
                continue
            layer_name, name = _owner(source), _owner(node)
            layer = module.get_submodule(layer_name)
            if not isinstance(layer, nn.Conv2d | nn.Linear) or layer_name == name:
                continue
            if _layer_calls(graph.graph.nodes, layer_name) != 1:
                continue
            follower = module.get_submodule(name)
            if isinstance(follower, nn.BatchNorm1d | nn.BatchNorm2d):
                if follower.running_mean is None:
                    continue
                _fold_norm(module, layer_name, name)
                folded["batch_norm"] += 1
            elif _is_layer_scale(follower) and calls[name] <= 2:
                _fold_scale(layer, follower.gamma)
                _replace(module, name, nn.Identity())
                folded["layer_scale"] += 1
        if folded.total() == before:
            return module, dict(folded)


def _owner(node: Node) -> str:
    stack = node.meta.get("nn_module_stack") or {"": ("", None)}
    return str(list(stack.values())[-1][0])


def _source(node: Node) -> Node | None:
    """Return the layer whose output `node` takes, looking through dropout; None if there is none."""
    if node.target not in (aten.batch_norm.default, aten.mul.Tensor, aten.mul_.Tensor):
        return None
    source = node.args[0]
    while isinstance(source, Node) and source.target in SKIPPED and len(source.users) == 1:
        source = source.args[0]
    if not isinstance(source, Node) or source.target not in WEIGHTED:
        return None
    # A weight that is computed in the forward pass (weight standardisation) cannot be folded into.
    return source if source.args[1].op == "get_attr" else None


def _layer_calls(nodes: object, name: str) -> int:
    return sum(n.target in WEIGHTED and _owner(n) == name for n in nodes)  # type: ignore[attr-defined]


def _is_layer_scale(follower: nn.Module) -> bool:
    """Tell timm's LayerScale and LayerScale2d: one product with a parameter `gamma` per channel."""
    gamma = getattr(follower, "gamma", None)
    return (
        isinstance(gamma, nn.Parameter)
        and gamma.dim() == 1
        and list(follower.parameters()) == [gamma]
        and type(follower).__name__.startswith("LayerScale")
    )


def _fold_norm(module: nn.Module, layer_name: str, norm_name: str) -> None:
    layer, norm = module.get_submodule(layer_name), module.get_submodule(norm_name)
    if isinstance(layer, nn.Conv2d):
        fused: nn.Module = fuse_conv_bn_eval(layer, norm)
    else:
        fused = fuse_linear_bn_eval(layer, norm)
    _replace(module, layer_name, fused)
    # timm's BatchNormAct2d holds dropout and activation, too.
    rest = [getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)]
    rest = [part for part in rest if not isinstance(part, nn.Identity)]
    _replace(module, norm_name, nn.Sequential(*rest) if rest else nn.Identity())


def _fold_scale(layer: nn.Module, gamma: torch.Tensor) -> None:
    with torch.no_grad():
        layer.weight.mul_(gamma.view(-1, *[1] * (layer.weight.dim() - 1)))
        if layer.bias is not None:
            layer.bias.mul_(gamma)


def _replace(module: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, new)
