"""Weight gradients of convolutions of small maps, against torch's own in float32 and float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgeward.training import small_maps
from edgeward.training.small_maps import SmallMaps

aten = torch.ops.aten


def conv(channels: int, kernel: int, stride: int, *, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(
        channels, channels, kernel, stride, kernel // 2, groups=channels, bias=bias
    ).double()


def gradients(net: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    images = images.clone().requires_grad_()
    out = net(images)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
    inputs = [images, *net.parameters()]
    return (out.detach(), *torch.autograd.grad((out * weights).sum(), inputs))


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes of the inputs whose gradient went our way."""
    seen: list[torch.Size] = []
    ours = small_maps.weight_gradient

    def noted(x: torch.Tensor, *args: object) -> torch.Tensor:
        seen.append(x.shape)
        return ours(x, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(small_maps, "weight_gradient", noted)
    return seen


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.sampled_from([3, 5, 7]),
    stride=st.sampled_from([1, 2]),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    channels=st.integers(2, 5),
    bias=st.booleans(),
    layout=st.sampled_from([torch.channels_last, torch.contiguous_format]),
)
def test_small_maps_have_torchs_gradients(
    kernel: int,
    stride: int,
    height: int,
    width: int,
    channels: int,
    bias: bool,
    layout: torch.memory_format,
) -> None:
    net = conv(channels, kernel, stride, bias=bias)
    images = torch.randn(3, channels, height, width, dtype=torch.float64)
    images = images.contiguous(memory_format=layout)
    expected = gradients(net, images)
    with SmallMaps():
        found = gradients(net, images)
    assert torch.equal(found[0], expected[0])
    for ours, torchs in zip(found, expected, strict=True):
        assert torch.allclose(ours, torchs, rtol=1e-10, atol=1e-12)


def test_the_tap_of_a_gradient_is_numerically_right() -> None:
    net = conv(2, 5, 1)
    images = torch.randn(2, 2, 3, 3, dtype=torch.float64)
    weight = net.weight.detach().requires_grad_()
    with SmallMaps():
        assert torch.autograd.gradcheck(
            lambda w: nn.functional.conv2d(images, w, None, 1, 2, groups=2), (weight,)
        )


def test_modules_and_exported_programs_are_both_caught(taken: list[torch.Size]) -> None:
    net = nn.Sequential(conv(4, 5, 2), nn.ReLU(), conv(4, 3, 1)).double()
    images = torch.randn(2, 4, 4, 4, dtype=torch.float64)
    program = torch.export.export(net, (images,)).module()
    expected = gradients(net, images)
    for model in (net, program):
        taken.clear()
        with SmallMaps():
            found = gradients(model, images)
        assert taken == [torch.Size([2, 4, 2, 2]), torch.Size([2, 4, 4, 4])]
        for ours, torchs in zip(found, expected, strict=True):
            assert torch.allclose(ours, torchs, rtol=1e-10, atol=1e-12)


def test_what_torch_does_well_is_left_to_it(taken: list[torch.Size]) -> None:
    cases = [
        (conv(4, 5, 1), torch.randn(2, 4, 5, 5)),  # as large as the kernel
        (nn.Conv2d(4, 8, 5, padding=2, groups=4), torch.randn(2, 4, 2, 2)),  # two filters a channel
        (nn.Conv2d(4, 4, 5, padding=2), torch.randn(2, 4, 2, 2)),  # dense
        (nn.Conv2d(4, 4, 5, padding="same", groups=4), torch.randn(2, 4, 2, 2)),
        (nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4), torch.randn(2, 4, 2, 2)),
    ]
    with SmallMaps():
        for net, images in cases:
            gradients(net.double(), images.double())
        with torch.no_grad():
            conv(4, 5, 1)(torch.randn(2, 4, 2, 2, dtype=torch.float64))
    gradients(conv(4, 5, 1), torch.randn(2, 4, 2, 2, dtype=torch.float64))  # outside of the context
    assert taken == []


@pytest.mark.parametrize(
    ("net", "size"),
    [
        (nn.Conv3d(16, 16, 3, padding=1), (2, 2, 2)),
        (nn.Conv3d(16, 16, 5, padding=2), (4, 4, 4)),
        (nn.Conv2d(64, 64, 3, stride=2, padding=1), (1, 1)),
        (nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=4), (3, 3)),
        (nn.Conv2d(16, 16, 3, padding=1, groups=16), (2, 2)),
    ],
    ids=str,
)
def test_bfloat16_gradients_of_small_maps_are_computed_in_float32(
    net: nn.Module, size: tuple[int, ...]
) -> None:
    """In bfloat16 they may be memory that was never written: NaN here, if so."""
    images = torch.randn(8, net.weight.shape[1] * net.groups, *size)
    expected = gradients(net, images)
    scraps = [torch.full((net.weight.numel(),), torch.nan) for _ in range(4)]
    del scraps
    with SmallMaps(), torch.autocast("cpu", torch.bfloat16):
        found = gradients(net, images)
    for ours, torchs in zip(found, expected, strict=True):
        assert torch.allclose(ours, torchs, rtol=1e-4, atol=1e-5)


def test_larger_maps_stay_in_bfloat16() -> None:
    with SmallMaps(), torch.autocast("cpu", torch.bfloat16):
        assert nn.Conv3d(2, 2, 3, padding=1)(torch.randn(1, 2, 3, 3, 3)).dtype == torch.bfloat16
