"""Structured pruning: the right channels leave, the rest computes the same, or it is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from compression_nets import EXAMPLE, Attention, Gated, Residual, Tokens
from refusals import naming
from torch import nn

from edgeward.compression.channels import ChannelPruner, importance, reshaped, widths
from edgeward.compression.cost import macs
from edgeward.compression.fusion import fuse
from edgeward.core.errors import UserError
from edgeward.models.deploy import Deployable, reparameterize


def pruner(net: nn.Module, images: torch.Tensor | None = None, **changes: Any) -> ChannelPruner:
    values: dict[str, Any] = {
        "importance": "l2", "round_to": 1, "scope": "layer", "max_ratio": 0.9, "keep": [], **changes,
    }  # fmt: skip
    torch.manual_seed(0)
    images = 255 * torch.rand(EXAMPLE.shape) if images is None else images
    values["importance"] = importance(values["importance"])
    return ChannelPruner(net.eval(), images, **values)


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


class Plain(nn.Module):
    """Two convolutions and a linear layer, of given widths."""

    def __init__(self, first: int = 8, second: int = 12) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, first, 3)
        self.two = nn.Conv2d(first, second, 3)
        self.fc = nn.Linear(second, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.two(torch.relu(self.one(image / 64 - 2))))
        return self.fc(x.mean((2, 3)))


class Shuffled(Plain):
    """Channels change places between the layers, by an index that the trace does not show."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.one(image / 64 - 2)).roll(3, dims=1)
        return self.fc(torch.relu(self.two(x)).mean((2, 3)))


class Merged(Plain):
    """Pairs of channels are summed through a reshape."""

    def __init__(self) -> None:
        super().__init__(16, 12)
        self.two = nn.Conv2d(8, 12, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.one(image / 64 - 2)).unflatten(1, (8, 2)).sum(2)
        return self.fc(torch.relu(self.two(x)).mean((2, 3)))


def test_dead_channels_are_those_that_go_and_nothing_changes() -> None:
    torch.manual_seed(0)
    net = Plain()
    dead = torch.tensor([1, 2, 5, 6])
    with torch.no_grad():
        net.one.weight[dead] = 0
        net.one.bias[dead] = 0
        net.two.weight[:, dead] = 0
    pruned = pruner(net, keep=["two"]).pruned(0.5)
    alive = [i for i in range(8) if i not in dead]
    assert torch.equal(pruned.one.weight, net.one.weight[alive])
    assert torch.equal(pruned.two.weight, net.two.weight[:, alive])
    images = 255 * torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(pruned(images), net(images))
    assert widths(net, pruned) == {"one": [8, 4]}


def test_the_importance_is_the_norm_of_all_that_a_channel_touches() -> None:
    torch.manual_seed(0)
    net = Plain()
    score = net.one.weight.square().sum((1, 2, 3)) + net.two.weight.square().sum((0, 2, 3))
    expected = sorted(score.topk(4).indices.tolist())
    pruned = pruner(net, keep=["two"]).pruned(0.5)
    assert torch.equal(pruned.one.weight, net.one.weight[expected])


def test_taylor_keeps_what_the_loss_depends_on() -> None:
    torch.manual_seed(0)
    net = Plain()
    with torch.no_grad():
        net.two.weight[:, :4] *= 1e-3  # four channels that matter little, but have large weights
        net.one.weight[:4] *= 30
    net(255 * torch.rand(8, 3, 16, 16)).square().mean().backward()
    by_loss = pruner(net, importance="taylor", keep=["two"]).pruned(0.5)
    by_size = pruner(net, importance="l2", keep=["two"]).pruned(0.5)
    assert torch.equal(by_loss.one.weight, net.one.weight[4:])
    assert torch.equal(by_size.one.weight, net.one.weight[:4])
    assert all(p.grad is None for p in by_loss.parameters())


def test_layers_that_are_summed_lose_the_same_channels() -> None:
    torch.manual_seed(0)
    net = Residual()
    taken = pruner(net)
    pruned = taken.pruned(0.5)
    assert set(taken.excluded) == {"fc"}
    assert set(widths(net, pruned)) == {"stem", "depthwise", "pointwise"}
    assert pruned.depthwise.groups == 4
    # stem 4*27+4, depthwise 4*9+4, pointwise 4*4+4, fc 3*4+3
    assert parameters(pruned) == 112 + 40 + 20 + 15
    assert macs(pruned, EXAMPLE) == 16 * 16 * 4 * 27 + 64 * 4 * 9 + 64 * 16 + 12
    assert parameters(net) == 224 + 80 + 72 + 27, "the original must not change"


def test_volumes_lose_channels_too() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv3d(1, 8, 3), nn.ReLU(), nn.Conv3d(8, 8, 3, groups=8), nn.Conv3d(8, 2, 1)
    )
    volumes = torch.rand(2, 1, 6, 6, 6)
    pruned = pruner(net, volumes).pruned(0.5)
    assert widths(net, pruned) == {"0": [8, 4], "2": [8, 4]}
    assert pruned(volumes).shape == (2, 2, 2, 2, 2)


def test_gates_follow_the_channels_that_they_gate() -> None:
    torch.manual_seed(0)
    net = Gated()
    pruned = pruner(net).pruned(0.5)
    assert widths(net, pruned) == {"stem": [8, 4], "gate": [8, 4], "last": [8, 4]}


def test_what_a_reshape_rearranges_is_left_alone() -> None:
    torch.manual_seed(0)
    attention = Attention().eval()
    assert reshaped(attention, EXAMPLE) == ["qkv", "after"]
    # The layer between scores and softmax can be narrower: nothing rearranges what it gives.
    expected = {"stem": [16, 8], "project": [16, 8], "before": [2, 1]}
    assert widths(attention, pruner(attention).pruned(0.5)) == expected
    assert reshaped(Merged().eval(), EXAMPLE) == ["one"]
    assert reshaped(Plain().eval(), EXAMPLE) == []
    net = Merged()
    assert widths(net, pruner(net).pruned(0.5)) == {"two": [12, 6]}


def test_a_flattening_of_single_pixels_is_no_reshape() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    assert reshaped(net.eval(), EXAMPLE) == []
    whole = nn.Sequential(nn.Conv2d(3, 8, 15), nn.Flatten(), nn.Linear(32, 3))
    assert reshaped(whole.eval(), EXAMPLE) == ["0"]


def test_what_the_trace_gets_wrong_is_found_out() -> None:
    torch.manual_seed(0)
    net = Shuffled()
    taken = pruner(net)
    assert widths(net, taken.pruned(0.5)) == {"two": [12, 6]}
    assert "computes something else" in taken.excluded["one"]


def test_channels_that_a_norm_mixes_stay() -> None:
    torch.manual_seed(0)
    net = Tokens()
    assert widths(net, pruner(net).pruned(0.5)) == {"up": [32, 16]}


def test_a_network_without_removable_channels_is_refused() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
    with pytest.raises(UserError, match=naming("structured_prune", "50%", 1, "magnitude_prune")):
        pruner(net).pruned(0.5)
    with pytest.raises(UserError, match=naming("structured_prune", 16, "round_to")):
        pruner(Plain(), round_to=16).pruned(0.5)


def test_a_share_of_the_macs_is_met_from_below() -> None:
    torch.manual_seed(0)
    net = Plain(32, 48)
    taken = pruner(net)
    before = macs(net, EXAMPLE)
    pruned, ratio = taken.pruned_to_macs(0.4)
    wider = taken.pruned(ratio - 0.02)
    assert macs(pruned, EXAMPLE) <= 0.4 * before < macs(wider, EXAMPLE)
    with pytest.raises(
        UserError, match=naming("structured_prune", "1%", "compress.steps[..].share")
    ):
        pruner(net, keep=["one"]).pruned_to_macs(0.01)


def test_widths_are_multiples_and_global_ranking_spares_the_strong() -> None:
    torch.manual_seed(0)
    net = Plain(32, 48)
    pruned = pruner(net, round_to=8).pruned(0.6)
    assert widths(net, pruned) == {"one": [32, 8], "two": [48, 16]}
    with torch.no_grad():
        net.one.weight[:28] *= 1e-3  # normed by the mean of its layer, 28 channels are weak
        net.two.weight[:, :28] *= 1e-3
    found = widths(net, pruner(net, scope="global", max_ratio=0.95).pruned(0.35))
    assert found["one"][1] == 4
    assert found.get("two", [48, 48])[1] > 40
    capped = pruner(net, scope="global", max_ratio=0.5).pruned(0.35)
    assert capped.one.weight.shape[0] == 16
    same = (capped.one.weight[:, None] == net.one.weight[None, 28:]).flatten(2).all(2)
    assert same.any(0).all(), "the strong ones stay"
    with pytest.raises(UserError, match=naming("structured_prune", 32, "round_to")):
        pruner(net, scope="global", max_ratio=0.3, round_to=32).pruned(0.35)
    assert widths(net, pruner(net, max_ratio=0.25).pruned(0.6)) == {
        "one": [32, 24],
        "two": [48, 36],
    }


def settled(name: str, **options: Any) -> tuple[nn.Module, torch.Tensor]:
    """Return a network of timm as it ships, with norms that have seen data."""
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=5, **options)
    module = Deployable(net, [0.7, 0.5, 0.5], [0.2, 0.2, 0.2])
    images = 255 * torch.rand(4, 3, 64, 64)
    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = 1.0
        module.train()(images)
    single, _ = fuse(reparameterize(module.eval()), images[:2])
    return single, images[:2]


@pytest.mark.parametrize(
    ("name", "options", "most"),
    [
        ("mobileone_s0", {}, 0.3),
        ("mobilenetv3_small_100", {}, 0.3),
        pytest.param("resnet18", {}, 0.3, marks=pytest.mark.exhaustive),
        ("mobilevit_xxs", {}, 0.6),
        pytest.param("efficientformerv2_s0", {"img_size": 64}, 0.5, marks=pytest.mark.exhaustive),
    ],
)
def test_networks_shrink(name: str, options: dict[str, int], most: float) -> None:
    net, images = settled(name, **options)
    taken = pruner(net, images, round_to=8)
    # Inside, every group was compared with the network in which nobody reads its channels.
    pruned = taken.pruned(0.5)
    assert parameters(pruned) < most * parameters(net)
    assert macs(pruned, images) < most * macs(net, images)
    again = copy.deepcopy(pruned).train()
    again(images).sum().backward()
    assert all(p.grad is not None for p in again.parameters())
