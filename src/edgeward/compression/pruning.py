"""Unstructured pruning: the smallest weights of the whole network become zero, and stay it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.utils import parametrize

from edgeward.compression.layers import Weighted


class Masked(nn.Module):
    """A parametrization: the weight times a mask, so that the optimizer cannot undo a zero."""

    mask: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.mask


def cubic(final: float, progress: float) -> float:
    """Return the sparsity at a share `progress` of the ramp: fast at first, slow at the end.

    ``s_f (1 - (1 - t)**3)`` from 0: Zhu and Gupta, To Prune, or Not to Prune (arXiv 1710.01878), eq. 1.
    """
    return final * (1 - (1 - min(max(progress, 0.0), 1.0)) ** 3)


class MagnitudePruner:
    """Masks on the weights of some layers, set by magnitude over all of them at once.

    Parameters
    ----------
    layers : name -> convolution or linear layer; each gets a parametrized weight until `finish`.
    sparsity : share of these weights, together, that ends up zero.
    least_kept : share of its own weights that every layer keeps, the largest ones. A network ends
        where one of its layers does, and by magnitude alone that happens long before the last
        weight is gone ("layer collapse", Tanaka et al., arXiv 2006.05467).
    ramp : share of the steps over which the sparsity rises. interval : steps between two rises.
    """

    def __init__(
        self,
        layers: Mapping[str, Weighted],
        sparsity: float,
        *,
        least_kept: float,
        ramp: float,
        interval: int,
    ) -> None:
        self.layers = dict(layers)
        self.sparsity, self.ramp, self.interval = sparsity, ramp, interval
        self.least_kept = least_kept
        self.masks: list[Masked] = []
        for layer in self.layers.values():
            mask = Masked(layer.weight)
            parametrize.register_parametrization(layer, "weight", mask)
            self.masks.append(mask)

    @torch.no_grad()
    def prune_to(self, sparsity: float) -> None:
        """Mask the smallest weights, ``round(sparsity * n)`` of all n; masked ones are the smallest.

        Of every layer the largest ``ceil(least_kept * n)`` stay, which can leave fewer to mask than
        were asked for, by less than one per layer.
        """
        parts = [layer.weight.abs().flatten() for layer in self.layers.values()]
        for part in parts:
            part[torch.topk(part, math.ceil(self.least_kept * len(part))).indices] = math.inf
        sizes = torch.cat(parts)
        count = min(round(sparsity * len(sizes)), int(sizes.isfinite().sum()))
        keep = torch.ones_like(sizes, dtype=torch.bool)
        keep[torch.topk(sizes, count, largest=False).indices] = False
        for mask, part in zip(
            self.masks, keep.split([m.mask.numel() for m in self.masks]), strict=True
        ):
            mask.mask.copy_(part.view_as(mask.mask))

    def on_step_start(self, step: int, steps: int) -> None:
        """Raise the sparsity along the cubic ramp; `step` counts from 0."""
        end = round(self.ramp * steps)
        if step == end or (step < end and step % self.interval == 0):
            self.prune_to(cubic(self.sparsity, step / end if end else 1.0))

    def finish(self) -> dict[str, torch.Tensor]:
        """Write the zeros into the weights, end the parametrization, return the masks by weight name."""
        found = {}
        for (name, layer), mask in zip(self.layers.items(), self.masks, strict=True):
            found[f"{name}.weight"] = mask.mask.clone()
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        return found


def sparsity_by_layer(masks: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return the share of zeros of each weight."""
    return {name: 1 - int(mask.sum()) / mask.numel() for name, mask in masks.items()}
