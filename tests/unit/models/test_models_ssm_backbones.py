"""MedMamba, VMamba and their layer: published counts, training, sizes, what the scan order changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from refusals import naming
from shipped import shipped
from torch import nn

from edgeward.core.errors import UserError
from edgeward.models.config import ModelConfig
from edgeward.models.factory import build
from edgeward.models.ssm.orders import ORDERS, order_indices
from edgeward.models.ssm.reference import sequential_scan
from edgeward.models.ssm.ss2d import SS2D
from edgeward.models.zoo.s6 import SelectiveBlock

torch.set_num_threads(1)

MEDMAMBA: dict[str, Any] = {"drop_path_rate": 0.1, "order": "cross", "d_state": 16, "expand": 2}
VMAMBA: dict[str, Any] = {**MEDMAMBA, "d_state": 1, "expand": 1.0, "mlp_ratio": 4.0}
SMALL: dict[str, Any] = {"width": 16, "depths": [1, 1]}


def make(
    architecture: str, classes: int = 3, size: tuple[int, int] = (32, 32), **options: Any
) -> nn.Module:
    cfg = ModelConfig(
        name="net",
        builder="edgeward",
        architecture=architecture,
        dense=False,
        family="ssm",
        drop_rate=0.0,
        branch_gain=1.0,
        options=options,
    )
    torch.manual_seed(0)
    return build(cfg, num_classes=classes, in_chans=3, image_size=size)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("width", "depths", "six", "thousand"),
    [
        (96, [2, 2, 4, 2], 14_457_222, 15_221_608),
        (96, [2, 2, 8, 2], 18_625_158, 19_389_544),
        (128, [2, 2, 12, 2], 39_864_838, 40_883_688),
    ],
    ids=["t", "s", "b"],
)
def test_medmamba_has_the_published_parameters(
    width: int, depths: list[int], six: int, thousand: int
) -> None:
    net = make("medmamba", 6, width=width, depths=depths, **MEDMAMBA)
    assert count(net) == six
    net.head = nn.Linear(8 * width, 1000)
    assert count(net) == thousand


def test_vmamba_has_the_parameters_of_the_released_network() -> None:
    """30,249,064, published as 30M: what the authors' class has with the options of their
    ``vmambav2v_tiny_224`` (commit 2ed52ea); of 1000 classes."""
    assert count(make("vmamba", 1000, width=96, depths=[2, 2, 8, 2], **VMAMBA)) == 30_249_064


TWIN: dict[str, Any] = {
    "inner": [8, 16],
    "blocks": "cs-s",
    "expand": 2,
    "order": "cross",
    "state": 4,
}


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("medmamba", {**SMALL, **MEDMAMBA, "drop_path_rate": 0.0}),
        ("vmamba", {**SMALL, **VMAMBA, "drop_path_rate": 0.0}),
        ("s6", {"dims": [16, 24], **TWIN}),
    ],
)
def test_training_lowers_the_loss_and_reaches_every_parameter(
    architecture: str, options: dict[str, Any]
) -> None:
    net = make(architecture, **options)
    images = torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 3
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3)
    losses: list[float] = []
    for _ in range(18):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        if not losses:
            assert all(p.grad is not None for p in net.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0], losses


@pytest.mark.parametrize(("architecture", "options"), [("medmamba", MEDMAMBA), ("vmamba", VMAMBA)])
@pytest.mark.parametrize("size", [(28, 28), (36, 52)])
def test_odd_and_unequal_sizes_work(
    architecture: str, options: dict[str, Any], size: tuple[int, int]
) -> None:
    net = make(architecture, size=size, **SMALL, **options).eval()
    assert net(torch.zeros(1, 3, *size)).shape == (1, 3)


def test_images_too_small_for_the_stages_are_refused() -> None:
    with pytest.raises(UserError, match=naming("3x16x16", "32x32", "medmamba")):
        make("medmamba", size=(16, 16), width=16, depths=[1, 1, 1, 1], **MEDMAMBA)


def layer(order: str, size: tuple[int, int] = (4, 5), **options: Any) -> SS2D:
    torch.manual_seed(0)
    given = {"d_state": 3, "expand": 2, "gated": True, "conv_bias": True, **options}
    return SS2D(8, size, order=order, **given).double().eval()


def scanned(net: SS2D, x: torch.Tensor, order: str) -> torch.Tensor:
    """The layer from its definition: directions one by one, tokens put in order first."""
    batch, height, width, _ = x.shape
    projected = net.in_proj(x)
    inner, gate = projected.chunk(2, -1)
    inner = nn.functional.silu(net.conv(inner.permute(0, 3, 1, 2)))
    tokens = inner.flatten(2).transpose(1, 2)  # (batch, L, inner)
    k, n = net.directions, net.d_state
    total = torch.zeros_like(tokens)
    a = -net.a_log.exp().view(k, n, -1)
    for i, steps in enumerate(torch.from_numpy(order_indices(order, height, width))):
        u = tokens[:, steps]
        low, b, c = (u @ net.x_proj[i]).split([net.rank, n, n], -1)
        dt = nn.functional.softplus(low @ net.dt_proj[i] + net.dt_bias.view(k, -1)[i])
        h = torch.zeros(batch, n, u.shape[-1], dtype=u.dtype)
        for t, token in enumerate(steps):
            h = (dt[:, t, None] * a[i]).exp() * h + b[:, t, :, None] * (dt * u)[:, t, None]
            y = (c[:, t, :, None] * h).sum(1) + net.skip.view(k, -1)[i] * u[:, t]
            total[:, token] += y
    y = net.norm(total).unflatten(1, (height, width)) * nn.functional.silu(gate)
    return net.out_proj(y)


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_layer_is_its_definition(order: str) -> None:
    net = layer(order)
    with torch.no_grad():
        net.skip.uniform_()
        x = torch.randn(2, 4, 5, 8, dtype=torch.float64)
        torch.testing.assert_close(net(x), scanned(net, x, order), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_twin_of_ssd_scans_channels_of_its_own_in_each_direction(order: str) -> None:
    torch.manual_seed(0)
    net = SelectiveBlock(6, 8, (3, 4), order, 2).double().eval()
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    k = ORDERS[order]
    with torch.no_grad():
        found = net(x)
        tokens = net.norm(x.flatten(2).transpose(1, 2).reshape(-1, 6))
        step = nn.functional.softplus(net.step(tokens))
        parts = [
            rows.unflatten(0, (2, 12)).unflatten(2, (k, -1)).numpy()
            for rows in (net.value(tokens), step, net.key(tokens), net.query(tokens))
        ]
        mixed = np.zeros((2, 12, k, 8 // k))
        rates = -net.rate.exp().view(k, 2, -1).numpy()
        for i, steps in enumerate(order_indices(order, 3, 4)):
            u, dt, b, c = (part[:, steps, i].swapaxes(0, 1)[:, None] for part in parts)
            y, _ = sequential_scan(u, dt, rates[i : i + 1], b, c)
            mixed[:, steps, i] = y[:, 0].swapaxes(0, 1)
        gated = torch.from_numpy(mixed).reshape(24, 8) * net.gate(tokens).sigmoid()
        expected = x + net.out(gated).reshape(2, 3, 4, 6).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_twins_of_the_comparison_have_equal_parameters() -> None:
    counts = {}
    for name in ("ssd_xs", "s6_xs"):
        cfg = ModelConfig(**shipped("model", name))
        counts[name] = count(build(cfg, num_classes=7, in_chans=3, image_size=(64, 64)))
    assert abs(counts["s6_xs"] / counts["ssd_xs"] - 1) < 0.03, counts


def test_raster_is_causal_and_cross_sees_everything() -> None:
    """What the last token says reaches the first only where an order reads backwards."""
    x = torch.randn(1, 4, 5, 8, dtype=torch.float64)
    changed = x.clone()
    changed[:, 3, 4] += 1
    for order, reaches in [("raster", False), ("cross", True), ("wavefront", True)]:
        with torch.no_grad():
            net = layer(order)
            difference = (net(changed) - net(x))[0, 0, 0].abs().max()
        assert (difference > 1e-9) == reaches, order


def test_recurrence_starts_as_mamba_does() -> None:
    net = layer("cross", d_state=16)
    steps = nn.functional.softplus(net.dt_bias)
    assert steps.min() > 0.99e-3
    assert steps.max() < 0.101
    rates = net.a_log.exp().view(4, 16, -1)
    torch.testing.assert_close(rates, torch.arange(1, 17.0)[:, None].double().expand_as(rates))
    assert (net.skip == 1).all()


def test_parameters_of_the_recurrence_are_not_decayed() -> None:
    net = layer("cross")
    assert all(p.ndim == 1 for p in (net.a_log, net.dt_bias, net.skip))
