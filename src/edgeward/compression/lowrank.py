"""Low-rank factorisation: one layer becomes two thinner ones, by truncated singular values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from edgeward.compression.layers import Weighted
from edgeward.core.errors import UserError


@dataclass(frozen=True)
class Factorable:
    """The singular value decomposition of one layer's weight, and where the layer is applied.

    Attributes
    ----------
    left, values, right : ``W = left diag(values) right`` of the weight as a matrix (n, c k k), float64.
    positions : output positions per image: pixels, or tokens.
    """

    layer: Weighted
    left: torch.Tensor
    values: torch.Tensor
    right: torch.Tensor
    positions: int

    def rank(self, energy: float, round_to: int) -> int | None:
        """Return the smallest rank that keeps `energy` of ``||W||_F**2``, rounded up to `round_to`.

        None where two layers of this rank take as many multiplications as the one.
        """
        power = self.values.square().cumsum(0)
        rank = int(torch.searchsorted(power, energy * power[-1])) + 1
        rank = -(-rank // round_to) * round_to
        return rank if self.saved(rank) > 0 else None

    def saved(self, rank: int) -> int:
        """Return the multiply-accumulates that this rank saves per image."""
        n, d = self.left.shape[0], self.right.shape[1]
        return self.positions * (n * d - rank * (n + d))

    def error(self, rank: int) -> float:
        """Return ``||W - W_r||_F / ||W||_F``, by Eckart and Young the least that a rank allows."""
        power = self.values.square()
        return float((power[rank:].sum() / power.sum()).sqrt())

    def split(self, rank: int) -> nn.Sequential:
        """Return two layers in a row: k x k into `rank` channels, then 1 x 1 (or two linear ones).

        Both factors get the root of the singular values, so that gradients reach them alike.
        """
        root = self.values[:rank].sqrt()
        first = (root[:, None] * self.right[:rank]).float()
        second = (self.left[:, :rank] * root).float()
        layer, bias = self.layer, self.layer.bias is not None
        if isinstance(layer, nn.Linear):
            pair = nn.Sequential(
                nn.Linear(layer.in_features, rank, bias=False),
                nn.Linear(rank, layer.out_features, bias=bias),
            )
        else:
            kind = nn.Conv3d if isinstance(layer, nn.Conv3d) else nn.Conv2d
            pair = nn.Sequential(
                kind(
                    layer.in_channels,
                    rank,
                    layer.kernel_size,
                    layer.stride,
                    layer.padding,
                    layer.dilation,
                    bias=False,
                    padding_mode=layer.padding_mode,
                ),
                kind(rank, layer.out_channels, 1, bias=bias),
            )
        with torch.no_grad():
            pair[0].weight.copy_(first.reshape(pair[0].weight.shape))
            pair[1].weight.copy_(second.reshape(pair[1].weight.shape))
            if layer.bias is not None:
                pair[1].bias.copy_(layer.bias)
        return pair.train(layer.training)


def decompose(
    module: nn.Module, layers: Mapping[str, Weighted], example: torch.Tensor
) -> tuple[dict[str, Factorable], dict[str, str]]:
    """Decompose the weights of those layers that two others can stand in for.

    Parameters
    ----------
    layers : of `module`, by name.
    example : float32 (b, c, h, w), with which the module is run once.

    Returns
    -------
    The decompositions, and for every other layer the reason why there is none.
    """
    positions: dict[nn.Module, list[int]] = {}

    def note(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        places = output.numel() // layer.weight.shape[0] // len(example)
        positions.setdefault(layer, []).append(places)

    handles = [layer.register_forward_hook(note) for layer in layers.values()]
    with torch.no_grad():
        module(example)
    for handle in handles:
        handle.remove()
    found, refused = {}, {}
    for name, layer in layers.items():
        if isinstance(layer, nn.Conv2d | nn.Conv3d) and layer.groups > 1:
            refused[name] = "grouped or depthwise: its matrices are too small"
        elif type(layer).forward not in (nn.Conv2d.forward, nn.Conv3d.forward, nn.Linear.forward):
            refused[name] = f"{type(layer).__name__} computes something of its own"
        elif layer not in positions:
            refused[name] = "its weight is used outside the layer"
        else:
            matrix = layer.weight.detach().double().flatten(1)
            left, values, right = torch.linalg.svd(matrix, full_matrices=False)
            found[name] = Factorable(layer, left, values, right, sum(positions[layer]))
    return found, refused


def ranks_for_energy(
    found: Mapping[str, Factorable], energy: float, round_to: int
) -> dict[str, int]:
    """Return the rank of each layer that keeps `energy` of it; layers where nothing is saved are left out."""
    ranks = {name: one.rank(energy, round_to) for name, one in found.items()}
    return {name: rank for name, rank in ranks.items() if rank is not None}


def ranks_for_macs(
    found: Mapping[str, Factorable], total: int, share: float, round_to: int
) -> tuple[dict[str, int], float]:
    """Return the ranks of the largest energy with which at most `share` of the MACs are left, and it.

    Parameters
    ----------
    total : MACs of the whole network before.

    Raises
    ------
    UserError
        If ranks of `round_to` everywhere leave more.
    """

    def left(ranks: Mapping[str, int]) -> float:
        return 1 - sum(found[name].saved(rank) for name, rank in ranks.items()) / total

    low, high = 0.0, 1.0
    if left(ranks_for_energy(found, low, round_to)) > share:
        raise UserError(
            f"low_rank: {share:.0%} of the MACs cannot be reached; "
            f"{left(ranks_for_energy(found, low, round_to)):.0%} are left at least. Raise "
            "compress.steps[..].level, or lower round_to."
        )
    for _ in range(40):
        middle = (low + high) / 2
        if left(ranks_for_energy(found, middle, round_to)) <= share:
            low = middle
        else:
            high = middle
    return ranks_for_energy(found, low, round_to), low


def replace(module: nn.Module, found: Mapping[str, Factorable], ranks: Mapping[str, int]) -> None:
    """Put the pairs of layers into `module`, under the names of those that they stand for."""
    for name, rank in ranks.items():
        parent, _, last = name.rpartition(".")
        setattr(module.get_submodule(parent), last, found[name].split(rank))
