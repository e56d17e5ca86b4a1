"""Networks that label volumes as a whole, and the state-space network without a scan."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from monai.networks.nets.resnet import resnet18
from refusals import naming
from shipped import shipped

from edgeward.core.errors import UserError
from edgeward.models.config import ModelConfig
from edgeward.models.deploy import reparameterize
from edgeward.models.factory import build
from edgeward.models.program import export_program
from edgeward.runtimes.onnxruntime import export as onnx_file
from edgeward.runtimes.onnxruntime import lowering
from edgeward.runtimes.onnxruntime.config import RecurrenceConfig

SIZE = (24, 32, 32)


def net(name: str, size: tuple[int, ...] = SIZE, channels: int = 1) -> torch.nn.Module:
    torch.manual_seed(0)
    cfg = ModelConfig.model_validate(shipped("model", name))
    return build(cfg, num_classes=2, in_chans=channels, image_size=size)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """Give every norm and mixture values that are not those of the start."""
    draw = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            part.running_mean.normal_(generator=draw)
            part.running_var.uniform_(0.5, 2, generator=draw)
            torch.nn.init.uniform_(part.weight, 0.5, 1.5, generator=draw)
        if hasattr(part, "share"):
            torch.nn.init.normal_(part.share, generator=draw)
    return module.eval()


@pytest.mark.parametrize("name", ["resnet10_w16", "ssd_3d_xs"])
def test_onnxruntime_computes_the_network(name: str) -> None:
    module = randomised(net(name))
    images = 255 * torch.rand(2, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module(images).numpy()
    model = onnx_file.translate(export_program(module, images), 20)
    lowering.lower(model, RecurrenceConfig())
    found = ort.InferenceSession(model.SerializeToString()).run(None, {"image": images.numpy()})[0]
    np.testing.assert_allclose(found, expected, atol=1e-3 * max(1.0, abs(expected).max()))


def test_resnet18_is_monais() -> None:
    theirs = resnet18(
        spatial_dims=3, n_input_channels=1, num_classes=2, conv1_t_size=3, conv1_t_stride=1
    )
    assert count(net("resnet18_3d")) == count(theirs)


def test_networks_in_the_plane_take_no_volumes() -> None:
    with pytest.raises(UserError, match=naming("mobilenetv3_small", "timm", "3 dimensions")):
        net("mobilenetv3_small")


@pytest.mark.parametrize(("size", "halvings"), [((64, 96), 2), ((224, 224), 4), (SIZE, 2)])
def test_mixtures_go_into_the_weights(size: tuple[int, ...], halvings: int) -> None:
    cfg = ModelConfig.model_validate(
        shipped("model", "efficientvim_xs", f"model.options.halvings={halvings}")
    )
    torch.manual_seed(0)
    module = randomised(build(cfg, num_classes=5, in_chans=3, image_size=size))
    deployed = reparameterize(module)
    assert count(deployed) < count(module)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = module(images), deployed(images)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_a_branch_begins_with_its_share(share: float) -> None:
    """Depthwise branches begin at zero, so what passes is what the share leaves of the input."""
    from edgeward.models.zoo.efficientvim import Block, DepthwiseMixture

    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(DepthwiseMixture(8, share, 2)(x), (1 - share) * x)
    block = Block(8, 4, 1.0, 2.0, share, 2)
    with torch.no_grad():
        block.mixer.out.weight.zero_()  # then the mixer gives nothing either
    torch.testing.assert_close(block(x)[0], (1 - share) ** 4 * x)


def test_tokens_have_no_order() -> None:
    """The mixer without its local convolution: what a token reads does not depend on where the others are."""
    from edgeward.models.zoo.efficientvim import HiddenStateMixer

    torch.manual_seed(0)
    mixer = HiddenStateMixer(16, 16, 9, 2).eval()
    local = mixer.maps[1]
    with torch.no_grad():
        local.weight.zero_()
        local.weight[:, 0, 1, 1] = 1
    images = torch.randn(1, 16, 6, 6)
    order = torch.randperm(36)
    with torch.no_grad():
        mixed, state = mixer(images)
        shuffled, same = mixer(images.flatten(2)[..., order].view_as(images))
    torch.testing.assert_close(shuffled.flatten(2), mixed.flatten(2)[..., order])
    torch.testing.assert_close(same, state)
