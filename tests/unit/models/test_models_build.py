"""Networks: counts against published ones, input sizes, errors, reparameterisation."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest
import torch
from guides import python
from refusals import naming
from shipped import all_of, shipped
from torch import nn

from edgeward.core.errors import UserError
from edgeward.models.config import ModelConfig
from edgeward.models.deploy import Deployable, reparameterize
from edgeward.models.factory import build
from edgeward.models.zoo import dscnn


def config(architecture: str, builder: str = "timm", **options: Any) -> ModelConfig:
    return ModelConfig(
        name="net",
        builder=builder,
        architecture=architecture,
        dense=False,
        family="cnn",
        drop_rate=0.0,
        branch_gain=1.0,
        options=options,
    )


def make(architecture: str, classes: int = 7, size: int = 64, chans: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return build(config(architecture), num_classes=classes, in_chans=chans, image_size=(size, size))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def stir(module: nn.Module) -> None:
    """Give batch norms statistics and affine weights that are far from the identity."""
    generator = torch.Generator().manual_seed(3)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            n = part.num_features
            part.running_mean = torch.randn(n, generator=generator) * 0.2
            part.running_var = torch.rand(n, generator=generator) + 0.5
            part.weight.data = torch.rand(n, generator=generator) + 0.5
            part.bias.data = torch.randn(n, generator=generator) * 0.2


def test_a_head_of_seven_classes_changes_the_count_by_its_size() -> None:
    assert count(make("efficientformerv2_s0", 7, 224)) == 3_600_256 - 2 * 177 * 993


@pytest.mark.parametrize(("classes", "fused"), [(1000, 2_078_504), (7, 1_060_679)])
def test_mobileone_fuses_to_the_published_size(classes: int, fused: int) -> None:
    assert count(reparameterize(make("mobileone_s0", classes))) == fused


@pytest.mark.parametrize(
    "architecture",
    ["mobileone_s0", "fastvit_t8", "repvit_m0_9", "efficientformerv2_s0", "resnet18"],
)
def test_reparameterized_net_gives_equal_outputs(architecture: str) -> None:
    net = Deployable(make(architecture), [0.7, 0.5, 0.5], [0.2, 0.2, 0.2])
    stir(net)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    image = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 255
    fused = reparameterize(net)
    with torch.no_grad():
        expected, got = net.eval()(image), fused(image)
    scale = expected.abs().max()
    assert (got - expected).abs().max() < 2e-4 * scale
    assert not fused.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_reparameterized_mobileone_has_one_trainable_branch() -> None:
    fused = reparameterize(make("mobileone_s0"))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    assert sum(isinstance(m, nn.Conv2d) for m in fused.modules()) == 43
    assert all(p.requires_grad and p.is_leaf for p in fused.parameters())


def test_branch_gain_starts_blocks_near_the_identity() -> None:
    plain = build(config("mobileone_s0"), num_classes=7, in_chans=3, image_size=(64, 64))
    cfg = config("mobileone_s0").model_copy(update={"branch_gain": 0.25})
    damped = build(cfg, num_classes=7, in_chans=3, image_size=(64, 64))
    blocks = [m for m in damped.modules() if getattr(m, "identity", None) is not None]
    assert len(blocks) == 35
    for block in blocks:
        assert (block.identity.weight == 1).all()
        for branch in block.conv_kxk:
            assert (branch.bn.weight == 0.25).all()
    ones = sum(int((p == 1).sum()) for p in plain.parameters())
    quarters = sum(int((p == 0.25).sum()) for p in damped.parameters())
    left = sum(int((p == 1).sum()) for p in damped.parameters())
    assert quarters > 0
    assert left + quarters == ones, "nothing else may change"


def test_branch_gain_without_such_branches_is_an_error() -> None:
    cfg = config("resnet18").model_copy(update={"branch_gain": 0.5})
    with pytest.raises(UserError, match=naming("branch_gain", 0.5, "config/model/net.yaml")):
        build(cfg, num_classes=7, in_chans=3, image_size=(64, 64))


def test_efficientformer_averages_its_two_heads() -> None:
    net = make("efficientformerv2_s0").eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = net.forward_head(net.forward_features(images), pre_logits=True)
        expected = (net.head(features) + net.head_dist(features)) / 2
        assert not torch.allclose(net.head(features), net.head_dist(features))
        torch.testing.assert_close(net(images), expected)
        torch.testing.assert_close(net.train()(images).shape, expected.shape)


@pytest.mark.parametrize("architecture", ["efficientformerv2_s0", "mobileone_s0", "levit_128s"])
@pytest.mark.parametrize(("size", "chans"), [(64, 3), (96, 1)])
def test_fixed_size_networks_are_built_for_the_image_size(
    architecture: str, size: int, chans: int
) -> None:
    net = make(architecture, 5, size, chans).eval()
    assert net(torch.zeros(2, chans, size, size)).shape == (2, 5)


def test_same_seed_same_weights() -> None:
    first, second = make("mobilevit_xxs").state_dict(), make("mobilevit_xxs").state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_own_network_is_found_by_its_file_name() -> None:
    cfg = config("dscnn", "edgeward", width=64, blocks=4)
    net = build(cfg, num_classes=7, in_chans=3, image_size=(64, 64))
    separable = 4 * (9 * 64 + 128 + 64 * 64 + 128)
    assert count(net) == 27 * 64 + 128 + separable + 64 * 7 + 7


@pytest.mark.parametrize(
    ("cfg", "size", "words"),
    [
        (config("mobileone_s9"), 64, ["mobileone_s9", "mobileone_s", "config/model/net.yaml"]),
        (config("dscn", "edgeward"), 64, ["dscn", "dscnn"]),
        (config("resnet18", widht=3), 64, ["resnet18", "widht", "config/model/net.yaml"]),
        (config("edgenext_xx_small"), 28, ["edgenext_xx_small", "3x28x28", "32x32", "image_size"]),
        (config("dscnn", "edgeward", width=8, blocks=12), 64, ["12 blocks", "3x64x64"]),
    ],
)
def test_what_cannot_be_built_is_one_clear_error(
    cfg: ModelConfig, size: int, words: list[str]
) -> None:
    with pytest.raises(UserError) as error:
        build(cfg, num_classes=7, in_chans=3, image_size=(size, size))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_deployable_normalises_as_the_textbook_does() -> None:
    mean, std = [0.7, 0.5, 0.4], [0.2, 0.1, 0.3]
    image = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    got = Deployable(nn.Identity(), mean, std)(image)
    m, s = (torch.tensor(v).view(1, 3, 1, 1) for v in (mean, std))
    torch.testing.assert_close(got, (image / 255 - m) / s, atol=1e-5, rtol=1e-5)


def test_constant_channel_is_refused() -> None:
    with pytest.raises(UserError, match=naming("channel_std", "[0.0]", "card.json")):
        Deployable(nn.Identity(), [0.5], [0.0])


def test_configs_are_read_without_torch() -> None:
    code = "import edgeward.models.config, sys; assert not {'torch', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


CONFIGS = {name: ModelConfig(**shipped("model", name)) for name in all_of("model")}
# The last one's heads are those of six directions, as volumes have them.
CLASSIFIERS = [n for n, cfg in CONFIGS.items() if not cfg.dense and n != "ssd_3d_xs"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_shipped_classifier_builds(name: str) -> None:
    net = build(CONFIGS[name], num_classes=7, in_chans=3, image_size=(64, 64))
    net(torch.zeros(2, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_a_network_of_ones_own_is_called_as_the_guide_says(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, Any] = {"nn": nn}
    exec(python("def build("), shown)
    given = inspect.signature(shown["build"])
    theirs = dscnn.build

    def called(**values: Any) -> nn.Module:
        named = given.bind(**values).arguments
        assert named.pop("options") == {"width": 8, "blocks": 2}
        return theirs(**named, width=8, blocks=2)

    monkeypatch.setattr(dscnn, "build", called)
    own = config("dscnn", "edgeward", width=8, blocks=2)
    build(own, num_classes=3, in_chans=1, image_size=(16, 16))
