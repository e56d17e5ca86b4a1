"""Low-rank factorisation: errors, ranks and costs against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from compression_nets import EXAMPLE, Residual
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import naming
from torch import nn

from edgeward.compression.cost import macs
from edgeward.compression.layers import weighted_layers
from edgeward.compression.lowrank import (
    Factorable,
    decompose,
    ranks_for_energy,
    ranks_for_macs,
    replace,
)
from edgeward.core.errors import UserError


def wide() -> nn.Sequential:
    """Convolutions of low rank but for a little noise, one depthwise, and a linear layer."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 24, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, padding=1, groups=24),
        nn.Conv2d(24, 32, 1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=2, dilation=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 4),
    )
    with torch.no_grad():
        for layer in (net[3], net[5]):
            n, d = layer.weight.flatten(1).shape
            low = torch.randn(n, 4) @ torch.randn(4, d) / d**0.5
            layer.weight.copy_((low + 0.01 * torch.randn(n, d)).view_as(layer.weight))
    return net.eval()


def decomposed(net: nn.Module, example: torch.Tensor = EXAMPLE) -> dict[str, Factorable]:
    return decompose(net, weighted_layers(net, [], "keep_whole"), example)[0]


@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from([(1, 1), (3, 3), (1, 3)]),
    st.integers(1, 2),
    st.integers(0, 2),
    st.integers(1, 2),
    st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_at_full_rank_the_pair_is_the_layer(
    c: int, n: int, kernel: tuple[int, int], stride: int, padding: int, dilation: int, bias: bool
) -> None:
    layer = nn.Conv2d(c, n, kernel, stride, padding, dilation, bias=bias)
    images = torch.randn(2, c, 9, 8)
    one = decomposed(nn.Sequential(layer), images)["0"]
    with torch.no_grad():
        torch.testing.assert_close(
            one.split(len(one.values))(images), layer(images), rtol=1e-4, atol=1e-5
        )


def test_at_full_rank_the_pair_is_the_convolution_of_volumes() -> None:
    layer, volumes = nn.Conv3d(2, 5, (3, 3, 1), (2, 1, 1), 1), torch.randn(2, 2, 6, 5, 4)
    one = decomposed(nn.Sequential(layer), volumes)["0"]
    with torch.no_grad():
        torch.testing.assert_close(one.split(5)(volumes), layer(volumes), rtol=1e-4, atol=1e-5)


def test_at_full_rank_the_pair_is_the_linear_layer_on_tokens() -> None:
    layer, tokens = nn.Linear(7, 5), torch.randn(2, 3, 7)
    one = decomposed(nn.Sequential(layer), tokens)["0"]
    assert one.positions == 3
    with torch.no_grad():
        torch.testing.assert_close(one.split(5)(tokens), layer(tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_the_error_is_that_of_eckart_and_young(rank: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 16, 3)
    one = decomposed(nn.Sequential(layer), torch.randn(2, 4, 5, 5))["0"]
    first, second = one.split(rank)
    product = torch.einsum("nr,rchw->nchw", second.weight.flatten(1), first.weight)
    values = np.linalg.svd(layer.weight.detach().double().flatten(1).numpy(), compute_uv=False)
    expected = np.sqrt((values[rank:] ** 2).sum() / (values**2).sum())
    measured = ((product - layer.weight).norm() / layer.weight.norm()).item()
    assert measured == pytest.approx(expected, rel=1e-4)
    assert one.error(rank) == pytest.approx(expected, rel=1e-9)


def test_the_rank_is_the_smallest_that_keeps_the_energy() -> None:
    torch.manual_seed(0)
    one = decomposed(nn.Sequential(nn.Linear(64, 48)), torch.randn(2, 64))["0"]
    values = one.values.numpy()
    for energy in (0.05, 0.3, 0.6):
        kept = [(values[:r] ** 2).sum() / (values**2).sum() for r in range(len(values) + 1)]
        rank = one.rank(energy, 1)
        assert rank is not None
        assert kept[rank] >= energy > kept[rank - 1]
        assert one.rank(energy, 8) == -(-rank // 8) * 8


def test_a_layer_is_split_only_where_that_saves() -> None:
    one = decomposed(nn.Sequential(nn.Linear(10, 10)), torch.randn(2, 10))["0"]
    # Two layers of rank 5 take 5 * 20 = 100 multiplications, as many as the one.
    assert [one.saved(rank) for rank in (4, 5, 6)] == [20, 0, -20]
    ranks = [one.rank(energy, 1) for energy in np.linspace(0, 1, 50)]
    assert {rank for rank in ranks if rank is not None} <= {1, 2, 3, 4}
    assert ranks[-1] is None


def test_costs_are_as_foreseen_and_depthwise_layers_stay() -> None:
    net = wide()
    found, refused = decompose(net, weighted_layers(net, [], "keep_whole"), EXAMPLE)
    assert set(refused) == {"2"}
    ranks = ranks_for_energy(found, 0.9, 1)
    assert {name: rank for name, rank in ranks.items() if name in "35"} == {"3": 4, "5": 4}
    before = macs(net, EXAMPLE)
    with torch.no_grad():
        exact = net(EXAMPLE)
        replace(net, found, ranks)
        assert (net(EXAMPLE) - exact).abs().max() < 0.3 * exact.abs().max()
    assert before - macs(net, EXAMPLE) == sum(found[k].saved(r) for k, r in ranks.items()) > 0


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_budget_is_kept_and_used(share: float) -> None:
    net = wide()
    found, total = decomposed(net), macs(wide(), EXAMPLE)
    ranks, energy = ranks_for_macs(found, total, share, 1)
    more = ranks_for_energy(found, min(1.0, energy + 1e-6), 1)
    left = [1 - sum(found[k].saved(r) for k, r in some.items()) / total for some in (ranks, more)]
    assert left[0] <= share < left[1]
    replace(net, found, ranks)
    assert macs(net, EXAMPLE) <= share * total


def test_a_budget_out_of_reach_is_an_error() -> None:
    with pytest.raises(UserError, match=naming("low_rank", "1%", "compress.steps[..].level")):
        ranks_for_macs(decomposed(wide()), macs(wide(), EXAMPLE), 0.01, 1)


def test_layers_that_are_more_or_less_than_a_layer_are_refused() -> None:
    class Standardised(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)

    class Borrowed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = Standardised(3, 8, 3)
            self.lent = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(self.own(x).mean((2, 3)), self.lent.weight)

    net = Borrowed().eval()
    found, refused = decompose(net, weighted_layers(net, [], "keep_whole"), EXAMPLE)
    assert not found
    assert "computes something of its own" in refused["own"]
    assert "used outside the layer" in refused["lent"]


def test_macs_are_the_textbooks() -> None:
    # stem 16*16*8*27, depthwise 8*8*8*9, pointwise 8*8*8*8, fc 8*3
    assert macs(Residual(), EXAMPLE) == 55296 + 4608 + 4096 + 24
