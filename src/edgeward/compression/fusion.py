"""Fold what follows a convolution linearly into its weights: batch norm and layer scale.

Who follows whom is read from the exported graph, and the change is made on the modules, so that
names, and with them `keep_float` and checkpoints of later steps, stay what they were.
"""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import nn
from torch.fx import Graph, Node
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from edgeward.models.program import export_program

aten = torch.ops.aten
TRANSPOSED = nn.ConvTranspose2d | nn.ConvTranspose3d
LAYERS = nn.Conv2d | nn.Conv3d | TRANSPOSED | nn.Linear
WEIGHTED = {
    aten.conv2d.default,
    aten.conv2d.padding,
    aten.conv3d.default,
    aten.conv3d.padding,
    aten.conv_transpose2d.input,
    aten.conv_transpose3d.input,
    aten.linear.default,
}
SKIPPED = {aten.dropout.default, aten.dropout_.default}


def fuse(module: nn.Module, example: torch.Tensor) -> tuple[nn.Module, dict[str, int]]:
    """Return a copy of an eval-mode module without the norms and scales that a layer can absorb.

    A batch norm or a layer scale (``x * gamma``, one gamma per channel) goes into the convolution
    or linear layer before it if it is that layer's only user and both are called once; conv, norm
    and scale in a row become one.

    Parameters
    ----------
    example : float32 (b >= 2, c, *spatial).

    Returns
    -------
    The module, whose outputs equal the original's up to rounding, and how many of each were folded.
    """
    # train() drops what a network has cached from older weights (timm's attention biases).
    module = copy.deepcopy(module).train().eval()
    graph = export_program(module, example).module().graph
    calls = Counter(_owner(node) for node in graph.nodes if node.op == "call_function")
    folded: Counter[str] = Counter()
    gone: set[Node] = set()
    for node in graph.nodes:
        source = _source(node, gone)
        if source is None or calls[_owner(source)] != 1:
            continue
        layer_name, name = _owner(source), _owner(node)
        layer, follower = module.get_submodule(layer_name), module.get_submodule(name)
        if not isinstance(layer, LAYERS) or layer is follower:
            continue
        if _is_batch_norm(follower) and node.target is aten.batch_norm.default:
            if _calls(graph, name, node.target) != 1:
                continue
            _fold_norm(module, layer_name, name)
            folded["batch_norm"] += 1
        elif (
            _is_layer_scale(follower)
            and not isinstance(layer, TRANSPOSED)
            and _calls(graph, name, node.target) == 1
        ):
            _fold_scale(layer, follower.gamma)
            _replace(module, name, nn.Identity())
            folded["layer_scale"] += 1
        else:
            continue
        gone.add(node)
    return module, dict(folded)


def _owner(node: Node) -> str:
    stack = node.meta.get("nn_module_stack") or {"": ("", None)}
    return str(list(stack.values())[-1][0])


def _calls(graph: Graph, name: str, target: object) -> int:
    return sum(node.target is target and _owner(node) == name for node in graph.nodes)


def _source(node: Node, gone: set[Node]) -> Node | None:
    """Return the layer whose output `node` alone takes, looking through dropout and what is folded."""
    if node.target not in (aten.batch_norm.default, aten.mul.Tensor, aten.mul_.Tensor):
        return None
    source = node.args[0]
    while isinstance(source, Node) and len(source.users) == 1:
        if source.target in WEIGHTED:
            # A weight computed in the forward pass (weight standardisation) cannot be folded into.
            return source if source.args[1].op == "get_attr" else None
        if source.target not in SKIPPED and source not in gone:
            return None
        source = source.args[0]
    return None


def _is_batch_norm(module: nn.Module) -> bool:
    norms = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
    return isinstance(module, norms) and module.running_mean is not None


def _is_layer_scale(module: nn.Module) -> bool:
    """Tell timm's LayerScale and LayerScale2d: one product with a parameter `gamma` per channel."""
    gamma = getattr(module, "gamma", None)
    return (
        isinstance(gamma, nn.Parameter)
        and gamma.dim() == 1
        and list(module.parameters()) == [gamma]
        and type(module).__name__.startswith("LayerScale")
    )


def _fold_norm(module: nn.Module, layer_name: str, norm_name: str) -> None:
    layer, norm = module.get_submodule(layer_name), module.get_submodule(norm_name)
    if isinstance(layer, nn.Linear):
        fused: nn.Module = fuse_linear_bn_eval(layer, norm)
    else:
        fused = fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, TRANSPOSED))
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
