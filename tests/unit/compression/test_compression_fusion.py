"""Folding of batch norms and layer scales into the layer before them."""

from __future__ import annotations

import pytest
import timm
import torch
from compression_nets import EXAMPLE
from timm.layers import BatchNormAct2d, LayerScale2d
from torch import nn

from edgeward.compression.fusion import fuse


class Scaled(nn.Module):
    """conv, norm with activation, depthwise conv without bias, norm, layer scale, residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = BatchNormAct2d(6)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False)
        self.drop = nn.Dropout(0.5)
        self.norm2 = nn.BatchNorm2d(6)
        self.scale = LayerScale2d(6, 0.3)
        self.fc = nn.Linear(6, 4)
        self.norm3 = nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x / 100 - 1))
        x = x + self.scale(self.norm2(self.drop(self.depthwise(x))))
        return self.norm3(self.fc(x.mean((2, 3))))


class Unfoldable(nn.Module):
    """A norm before its layer, a layer used twice, and a layer whose output has two users."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(3)
        self.twice = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        self.norm2 = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.twice(self.first(x)))
        y = self.twice(x)
        return (self.norm2(y) + y).mean((2, 3))


def used(net: nn.Module) -> nn.Module:
    """Give every norm statistics and every parameter a value of its own."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3 + 0.1)
        net.train()
        for _ in range(4):
            net(torch.rand(8, 3, 16, 16) * 255)
    return net.eval()


def test_norms_and_scales_go_into_the_weights() -> None:
    net = used(Scaled())
    images = torch.rand(4, 3, 16, 16) * 255
    fused, folded = fuse(net, EXAMPLE)
    assert folded == {"batch_norm": 3, "layer_scale": 1}
    assert not any(isinstance(m, nn.BatchNorm2d | LayerScale2d) for m in fused.modules())
    with torch.no_grad():
        torch.testing.assert_close(fused(images), net(images), rtol=1e-4, atol=1e-5)
    # The activation inside the norm is still there, the names are those of before.
    assert any(isinstance(m, nn.ReLU) for m in fused.norm.modules())
    assert {"conv", "depthwise", "fc"} <= dict(fused.named_modules()).keys()
    assert isinstance(net.norm2, nn.BatchNorm2d), "the original must not change"


def test_what_cannot_be_folded_is_left_alone() -> None:
    net = used(Unfoldable())
    fused, folded = fuse(net, EXAMPLE)
    assert folded == {}
    with torch.no_grad():
        torch.testing.assert_close(fused(EXAMPLE), net(EXAMPLE))


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050"])
def test_networks_of_timm_lose_all_their_norms(name: str) -> None:
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=5).eval()
    images = torch.randn(2, 3, 32, 32)
    fused, folded = fuse(net, images)
    assert set(folded) == {"batch_norm"}
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    with torch.no_grad():
        torch.testing.assert_close(fused(images), net(images), rtol=1e-3, atol=1e-4)
