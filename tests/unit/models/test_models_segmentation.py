"""Networks for segmentation: published counts, images and volumes, deep supervision, single-branch forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from refusals import naming
from shipped import all_of, shipped
from torch import nn

from edgeward.compression.fusion import fuse
from edgeward.core.errors import UserError
from edgeward.models.config import ModelConfig
from edgeward.models.dense import Segmenter, double
from edgeward.models.deploy import Deployable, reparameterize
from edgeward.models.factory import SizeError, build
from edgeward.models.ssm.mamba import Mamba
from edgeward.models.ssm.orders import ORDERS, order_indices
from edgeward.models.ssm.reference import sequential_scan

torch.set_num_threads(1)

CONFIGS = {name: ModelConfig(**shipped("model", name)) for name in all_of("model")}
SEGMENTERS = [name for name, cfg in CONFIGS.items() if cfg.dense]
# Large siblings, which differ from a tested network in widths alone.
SMALL = [name for name in SEGMENTERS if name not in ("mk_unet_m", "mk_unet_l", "lightm_unet")]
SCAN = {"order": "raster", "d_state": 16, "d_conv": 4, "expand": 2}


def make(name: str, labels: int, chans: int, size: tuple[int, ...], **options: Any) -> nn.Module:
    cfg = CONFIGS[name]
    cfg = cfg.model_copy(update={"options": {**cfg.options, **options}})
    torch.manual_seed(0)
    return build(cfg, num_classes=labels, in_chans=chans, image_size=size)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def stir(module: nn.Module) -> None:
    """Give batch norms statistics and affine weights that are far from the identity."""
    generator = torch.Generator().manual_seed(3)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
            for tensor, low in (
                (part.running_mean, -0.3),
                (part.running_var, 0.5),
                (part.weight.data, 0.5),
                (part.bias.data, -0.3),
            ):
                tensor.copy_(torch.rand(len(tensor), generator=generator) + low)


@pytest.mark.parametrize(
    ("name", "dims", "chans", "labels", "options", "parameters"),
    [
        ("u_lite", 2, 3, 1, {}, 878_417),
        ("mk_unet_t", 2, 3, 1, {}, 27_384),
        ("mk_unet_s", 2, 3, 1, {}, 93_050),
        ("mk_unet", 2, 3, 1, {}, 315_566),
        ("mk_unet_m", 2, 3, 1, {}, 1_150_166),
        ("mk_unet_l", 2, 3, 1, {}, 3_758_118),
        ("ultralight_vm_unet", 2, 3, 1, {}, 49_457),
        ("lightm_unet", 2, 1, 2, {}, 5_011_683),
        ("lightm_unet", 2, 3, 2, {}, 5_011_765),
        ("lightm_unet", 3, 1, 2, {}, 5_015_733),
        ("lightm_unet", 3, 1, 3, {}, 5_015_766),
        ("lightm_unet", 3, 1, 3, {"width": 16}, 1_344_966),
        ("lightm_unet_w8", 3, 1, 3, {}, 381_822),
        # Of the size of lightm_unet_w8; by its layers, in closed form.
        ("u_lite3d", 3, 1, 3, {}, 380_155),
    ],
)
def test_parameters_are_the_published_ones(
    name: str, dims: int, chans: int, labels: int, options: dict[str, Any], parameters: int
) -> None:
    with torch.device("meta"):
        net = make(name, labels, chans, (32,) * dims, **options)
    assert count(net) == parameters


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_the_scan_order_changes_no_size(order: str) -> None:
    with torch.device("meta"):
        assert count(make("lightm_unet_w8", 3, 1, (8, 16, 8), order=order)) == 381_822


CASES = [
    *((name, (32, 64)) for name in SMALL if name not in ("u_lite3d", "unet")),
    *((name, (16, 32, 16)) for name in ("u_lite3d", "lightm_unet_w8", "unet", "vim_unet")),
    *((name, (32, 32, 32)) for name in ("mk_unet_t", "ultralight_vm_unet")),
]


@pytest.mark.parametrize(("name", "size"), CASES, ids=lambda v: v if isinstance(v, str) else len(v))
def test_training_outputs_reach_every_parameter_and_the_first_is_what_ships(
    name: str, size: tuple[int, ...]
) -> None:
    net = make(name, 3, 2, size)
    assert isinstance(net, Segmenter)
    image = torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(0))
    outputs = net.train_outputs(image)
    for k, output in enumerate(outputs):
        assert output.shape == (2, 3, *(side >> k for side in size))
    sum(output.square().mean() for output in outputs).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    net.eval()
    with torch.no_grad():
        assert torch.equal(net(image), net.train_outputs(image)[0])
    assert len(outputs) == (4 if name.startswith("mk_unet") else 1)


@pytest.mark.parametrize(
    ("name", "size", "left"),
    [
        ("u_lite", (32, 32), 0),
        ("u_lite3d", (16, 16, 16), 0),
        ("mk_unet_t", (32, 32), 0),
        ("mk_unet_t", (32, 32, 32), 0),
        ("unet", (16, 16, 16), 0),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_single_branch_form_gives_equal_outputs_without_norms(
    name: str, size: tuple[int, ...], left: int
) -> None:
    net = Deployable(make(name, 3, 1, size), [0.4], [0.3], len(size))
    stir(net)
    image = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(1)) * 255
    single, _ = fuse(reparameterize(net), image)
    with torch.no_grad():
        expected, got = net.eval()(image), single(image)
    assert (got - expected).abs().max() < 2e-4 * expected.std()
    assert sum("BatchNorm" in type(m).__name__ for m in single.modules()) == left


def test_deployable_normalises_volumes_and_passes_deep_supervision_on() -> None:
    net = make("mk_unet_t", 2, 1, (32, 32, 32))
    image = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    ship = Deployable(net, [0.5], [0.25], 3).eval()
    with torch.no_grad():
        torch.testing.assert_close(ship(image), net((image / 255 - 0.5) / 0.25))
        for got, expected in zip(
            ship.train_outputs(image), net.train_outputs((image / 255 - 0.5) / 0.25), strict=True
        ):
            torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (2, 3, 4, 6, 5)])
def test_doubling_is_nearest_neighbour_interpolation(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
    assert torch.equal(double(x), expected)


def mamba_by_definition(net: Mamba, x: np.ndarray) -> np.ndarray:
    """The block over one sequence (L, dim), float64, as the paper writes it."""
    weights = {name: p.detach().double().numpy() for name, p in net.named_parameters()}
    u, gate = np.split(x @ weights["in_proj.weight"].T, 2, axis=1)
    taps = weights["conv.weight"][:, 0]  # (channels, taps), the last one is of the token itself
    padded = np.vstack([np.zeros((taps.shape[1] - 1, u.shape[1])), u])
    u = sum(padded[k : k + len(u)] * taps[:, k] for k in range(taps.shape[1]))
    u = u + weights["conv.bias"]
    u = u / (1 + np.exp(-u))
    low, b, c = np.split(u @ weights["x_proj.weight"].T, [net.rank, net.rank + net.d_state], axis=1)
    dt = np.logaddexp(0, low @ weights["dt_proj.weight"].T + weights["dt_proj.bias"])
    a = -np.exp(weights["a_log"]).reshape(1, net.d_state, -1)
    y, _ = sequential_scan(
        u[:, None, None], dt[:, None, None], a, b[:, None, None], c[:, None, None]
    )
    y = (y[:, 0, 0] + u * weights["skip"]) * gate / (1 + np.exp(-gate))
    return y @ weights["out_proj.weight"].T


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_mamba_is_what_its_definition_says_in_every_direction(order: str) -> None:
    torch.manual_seed(0)
    net = Mamba(6, (2, 3, 4), order=order, d_state=4, d_conv=4, expand=2)
    x = torch.randn(24, 2, 6)
    with torch.no_grad():
        got = net(x).numpy()
    directions = order_indices(order, 2, 3, 4)
    for item in range(2):
        tokens = x[:, item].double().numpy()
        expected = np.zeros_like(tokens)
        for sequence in directions:
            expected[sequence] += mamba_by_definition(net, tokens[sequence]) / len(directions)
        np.testing.assert_allclose(got[:, item], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("u_lite", (40, 40), ["5 times", "multiples of 32", "3x40x40", "32x32", "image_size"]),
        (
            "lightm_unet_w8",
            (12, 20, 12),
            ["3x12x20x12", "8x16x8", "the patch size in config/train/"],
        ),
    ],
)
def test_sides_that_cannot_be_halved_are_refused(
    name: str, size: tuple[int, ...], words: list[str]
) -> None:
    with pytest.raises(SizeError) as error:
        make(name, 2, 3, size)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("name", "changes", "size", "words"),
    [
        ("dscnn", {}, (32, 32, 32), ["'dscnn'", 3, "32x32x32"]),
        (
            "lightm_unet",
            {"options": {"width": 12, **SCAN}},
            (32, 32),
            ["'lightm_unet'", "width 12", 8],
        ),
        (
            "ultralight_vm_unet",
            {"options": {"widths": [6, 8], **SCAN}},
            (32, 32),
            ["'ultralight_vm_unet'", "[6, 8]", 4],
        ),
    ],
)
def test_what_cannot_be_built_is_one_clear_error(
    name: str, changes: dict[str, Any], size: tuple[int, ...], words: list[object]
) -> None:
    with pytest.raises(UserError, match=naming(*words)):
        build(CONFIGS[name].model_copy(update=changes), num_classes=2, in_chans=3, image_size=size)


def test_networks_of_timm_are_not_dense() -> None:
    with pytest.raises(ValidationError, match=naming("dense", "true", "timm")):
        ModelConfig(**CONFIGS["resnet18"].model_dump() | {"dense": True})
