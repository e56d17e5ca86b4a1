"""Structured pruning: whole channels leave the network, which gets smaller and faster.

Which layers share a channel is found by torch-pruning's dependency graph (Fang et al., DepGraph, CVPR
2023, arXiv 2301.12900), from a trace. Nothing is taken on trust: a network from which channels are gone
has to give what the whole one gives if nobody reads these channels. A group of layers that does not
pass stays as it is, and is named; so does one whose channels a norm mixes, since there the two differ
by nature. Layers whose channels a reshape rearranges (attention, scans) are left out from the start:
torch-pruning follows indices through reshapes, and in circles of them until memory is full.
"""

from __future__ import annotations

import copy
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
import torch_pruning as tp  # type: ignore[import-untyped]
from torch import nn
from torch.fx import Node

from edgeward.compression.cost import macs
from edgeward.compression.layers import Weighted
from edgeward.core.errors import UserError
from edgeward.models.program import export_program

# Largest difference between the pruned and the masked network, relative to the spread of the logits.
TOLERANCE = 1e-3
aten = torch.ops.aten
CONVOLUTIONS = {
    aten.conv2d.default,
    aten.conv2d.padding,
    aten.conv3d.default,
    aten.conv3d.padding,
}
WEIGHTED = {*CONVOLUTIONS, aten.linear.default}
RESHAPES = {
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
}
CONSUMERS = {tp.prune_conv_in_channels, tp.prune_linear_in_channels}
# What a trace that was misread raises, in torch-pruning or in the network pruned by it.
PROBLEMS = (
    RuntimeError,
    IndexError,
    ValueError,
    AssertionError,
    KeyError,
    TypeError,
    AttributeError,
)

logger = logging.getLogger(__name__)


class Misread(Exception):
    """A group of channels cannot leave the network without changing the rest."""


class ChannelPruner:
    """Removes channels from copies of one network.

    Parameters
    ----------
    module : the network, in eval mode; never changed. Its gradients are used by "taylor".
    images : float32 (b >= 2, c, h, w) on which pruned and masked networks are compared.
    importance : of torch-pruning, from a group to a score per channel.
    round_to : channels left are a multiple of this.
    scope : "layer" removes the same share everywhere, "global" the least important of all.
    max_ratio : largest share that one layer loses.
    keep : names of layers whose channels all stay.

    Attributes
    ----------
    excluded : name of a layer -> why its channels stay; grows while pruning is tried.
    """

    def __init__(
        self,
        module: nn.Module,
        images: torch.Tensor,
        *,
        importance: Callable[[Any], torch.Tensor],
        round_to: int,
        scope: Literal["layer", "global"],
        max_ratio: float,
        keep: Sequence[str],
    ) -> None:
        self.module, self.images, self.importance = module, images, importance
        self.round_to, self.scope, self.max_ratio = round_to, scope, max_ratio
        self.excluded = dict.fromkeys(reshaped(module, images), "a reshape rearranges its channels")
        self.excluded |= dict.fromkeys(keep, "the recipe keeps it")

    def pruned(self, ratio: float) -> nn.Module:
        """Return a copy without a share `ratio` of its prunable channels.

        Raises
        ------
        UserError
            If no channel leaves.
        """
        model, groups = self._attempt(ratio)
        if not groups:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.excluded.items())
            raise UserError(
                f"structured_prune: at a ratio of {ratio:.0%}, in multiples of {self.round_to}, no channel "
                f"of this network can be removed ({reasons or 'its layers are too narrow'}). Lower "
                "share or round_to, use magnitude_prune or low_rank (config/compress/), or another "
                "model."
            )
        return model

    def pruned_to_macs(self, share: float) -> tuple[nn.Module, float]:
        """Return the largest copy with at most `share` of the MACs, and its channel ratio.

        Raises
        ------
        UserError
            If removing all that can be removed leaves more.
        """
        goal = share * macs(self.module, self.images)
        low, high = 0.0, self.max_ratio if self.scope == "layer" else 0.98
        best = self.pruned(high)
        if macs(best, self.images) > goal:
            least = share * macs(best, self.images) / goal
            raise UserError(
                f"structured_prune: {share:.0%} of the MACs cannot be reached; {least:.0%} are left at "
                f"least, with the channels of {len(self.excluded)} layers staying whole. Raise "
                "compress.steps[..].share or max_ratio, or lower round_to."
            )
        while high - low > 0.005:
            middle = (low + high) / 2
            model, _ = self._attempt(middle)
            if macs(model, self.images) <= goal:
                high, best = middle, model
            else:
                low = middle
        return best, high

    def _attempt(self, ratio: float) -> tuple[nn.Module, int]:
        """Prune copies until one needs no further layer to be left alone; count its groups."""
        while True:
            model, failed, groups = self._copy(), None, 0
            for name, group in self._groups(model, ratio):
                try:
                    _prune(model, group, self.images)
                except Misread as error:
                    failed = name, str(error)
                    break
                groups += 1
            if failed is None:
                for parameter in model.parameters():
                    parameter.grad = None
                # train() drops what the network has cached while it was compared (attention biases).
                return model.train().eval(), groups
            logger.info("the channels of %s stay: %s", *failed)
            self.excluded[failed[0]] = failed[1]

    def _copy(self) -> nn.Module:
        model = copy.deepcopy(self.module)
        for mine, theirs in zip(model.parameters(), self.module.parameters(), strict=True):
            mine.grad = None if theirs.grad is None else theirs.grad.clone()
        return model

    def _groups(self, model: nn.Module, ratio: float) -> Iterator[tuple[str, Any]]:
        """Yield (name of its root layer, group) as torch-pruning chooses them, to be pruned in turn."""
        layers = dict(model.named_modules())
        names = {layer: name for name, layer in layers.items()}
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            try:
                pruner = tp.pruner.BasePruner(
                    model,
                    self.images,
                    importance=self.importance,
                    global_pruning=self.scope == "global",
                    pruning_ratio=ratio if self.scope == "global" else min(ratio, self.max_ratio),
                    ignored_layers=[layers[name] for name in self.excluded],
                    round_to=self.round_to,
                )
            except PROBLEMS as error:
                raise UserError(
                    f"structured_prune: torch-pruning cannot trace this network ({error}). Use "
                    "magnitude_prune or low_rank in config/compress/, or another model."
                ) from error
        for group in pruner.step(interactive=True):
            if not group[0].idxs:  # rounded to nothing
                continue
            limited = self._limited(pruner.DG, group)
            if limited is not None:
                yield names[limited[0].dep.target.module], limited

    def _limited(self, graph: Any, group: Any) -> Any:
        """Return the group with at most `max_ratio` of its channels, the least important, or None.

        torch-pruning applies its own limit before a step only, and so not to a single one.
        """
        root, prune = group[0].dep.target.module, group[0].dep.handler
        channels = graph.get_out_channels(root)
        left = -(-math.ceil(channels * (1 - self.max_ratio)) // self.round_to) * self.round_to
        most = max(0, channels - left)
        if self.scope == "layer" or len(group[0].idxs) <= most:
            return group
        whole = graph.get_pruning_group(root, prune, list(range(channels)))
        scores = self.importance(whole)
        blocks = max((_blocks(dep.target.module) for dep, _ in whole), default=1)
        if blocks > 1:  # a grouped convolution: the same places in every block
            scores = scores.view(blocks, -1).mean(0).repeat(blocks)
        width = channels // blocks
        places = scores[:width].argsort()[: most // blocks].tolist()
        chosen = sorted(place + k * width for k in range(blocks) for place in places)
        return graph.get_pruning_group(root, prune, chosen) if chosen else None


def _blocks(layer: Any) -> int:
    """Return the groups of a grouped convolution that is not depthwise, else 1."""
    if isinstance(layer, nn.Conv2d | nn.Conv3d) and layer.groups != layer.in_channels:
        return layer.groups
    return 1


def _prune(model: nn.Module, group: Any, images: torch.Tensor) -> None:
    """Remove the group's channels from `model`, in place.

    Raises
    ------
    Misread
        If the result is not the network in which nobody reads these channels.
    """
    with torch.no_grad():
        for dep, indices in group:
            if dep.handler in CONSUMERS:
                dep.target.module.weight[:, indices] = 0
        expected = model(images)
        try:
            group.prune()
            found = model(images)
        except PROBLEMS as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise Misread(f"without its channels the network does not run: {reason}") from error
    if found.shape != expected.shape:
        raise Misread("without its channels the logits have another shape")
    off = float((found - expected).abs().max() / expected.std().clamp_min(1e-12))
    if not off <= TOLERANCE:
        raise Misread(f"without its channels the rest computes something else ({off:.1g})")


def reshaped(module: nn.Module, example: torch.Tensor) -> list[str]:
    """Name the layers whose output channels a reshape splits, merges or moves on their way.

    On their way means: up to the next layer that mixes all channels, and also backwards from where
    they meet others, in a sum say. A flattening of single pixels, (b, c, 1, 1) to (b, c), is none.
    """
    graph = export_program(module, example).module().graph
    found, seen = [], set()
    for start in graph.nodes:
        if start.op != "call_function" or start in seen:
            continue
        together, todo = set(), [start]
        while todo:
            node = todo.pop()
            if node in together:
                continue
            together.add(node)
            sources = [] if _mixes(node) else node.all_input_nodes
            todo += [n for n in sources if n.op == "call_function"]
            todo += [n for n in node.users if n.op == "call_function" and not _mixes(n)]
        seen |= together
        if any(_rearranges(node) for node in together):
            found += [
                str(node.args[1].target).removesuffix(".weight")
                for node in graph.nodes
                if node in together and node.target in WEIGHTED and node.args[1].op == "get_attr"
            ]
    return found


def _mixes(node: Node) -> bool:
    """Tell whether every output channel depends on all input channels."""
    grouped = node.target in CONVOLUTIONS and (len(node.args) > 6 and node.args[6] != 1)
    return node.target in WEIGHTED and not grouped


def _rearranges(node: Node) -> bool:
    if node.target not in RESHAPES:
        return False
    before, after = node.args[0].meta["val"].shape, node.meta["val"].shape
    single = all(size == 1 for size in (*before[2:], *after[2:]))
    return not (single and before[1] == after[1])


def importance(name: str) -> Callable[[Any], torch.Tensor]:
    """Return how channels are ranked: "l1", "l2", "taylor" (needs gradients) or "random"."""
    if name == "taylor":
        return tp.importance.GroupTaylorImportance()
    if name == "random":
        return tp.importance.RandomImportance()
    return tp.importance.GroupMagnitudeImportance(p={"l1": 1, "l2": 2}[name])


def widths(before: nn.Module, after: nn.Module) -> dict[str, list[int]]:
    """Return the output channels [before, after] of the layers that have fewer."""
    found = {}
    for name, layer in before.named_modules():
        if isinstance(layer, Weighted):
            pair = [layer.weight.shape[0], after.get_submodule(name).weight.shape[0]]
            if pair[0] != pair[1]:
                found[name] = pair
    return found
