"""Weights from files and from timm: taken whole, or refused with what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from efficientnet_lite_pytorch import EfficientNet
from refusals import naming
from safetensors.torch import save_file
from shipped import shipped
from torch import nn

from edgeward.core.errors import UserError
from edgeward.core.io import sha256
from edgeward.models.checkpoint import save_checkpoint
from edgeward.models.config import WEIGHTS_ROOT, FileWeights, ModelConfig
from edgeward.models.deploy import Deployable
from edgeward.models.factory import build
from edgeward.models.weights import Weights, find, plain, renamed
from edgeward.records.recipe import ModelMeta

SIZE, NAMES = (32, 32), ["a", "b", "c", "d", "e"]


def config(weights: Any, architecture: str = "resnet10t", **changes: Any) -> ModelConfig:
    return ModelConfig(
        name="mine", architecture=architecture, family="cnn", weights=weights, **changes
    )


def of_file(path: str, **more: Any) -> dict[str, Any]:
    return {"kind": "file", "path": path, **more}


def begun(cfg: ModelConfig, classes: Sequence[str], in_chans: int = 3) -> tuple[nn.Module, Weights]:
    weights = find(cfg)
    assert weights is not None
    net = build(
        cfg,
        num_classes=len(classes),
        in_chans=in_chans,
        image_size=SIZE,
        weights=weights,
        classes=classes,
    )
    return net, weights


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A network that somebody trained, in files of the usual kinds below the weights root."""
    monkeypatch.setenv(WEIGHTS_ROOT, str(tmp_path))
    torch.manual_seed(7)
    net = timm.create_model("resnet10t", num_classes=5)
    for p in net.parameters():
        nn.init.normal_(p, std=0.05)
    state = net.state_dict()
    torch.save(state, tmp_path / "plain.pth")
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3},
        tmp_path / "lightning.ckpt",
    )
    save_file(state, tmp_path / "net.safetensors")
    return net.eval()


@pytest.mark.parametrize("name", ["plain.pth", "lightning.ckpt", "net.safetensors"])
def test_the_features_are_those_of_the_file_and_the_head_is_new(
    source: nn.Module, name: str, tmp_path: Path
) -> None:
    net, weights = begun(config(of_file(name)), list("uvw"))
    x = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        assert net.eval().forward_features(x).numpy() == pytest.approx(
            source.forward_features(x).numpy(), abs=1e-4
        )
    assert weights.drawn == ["fc.weight", "fc.bias"] == weights.head
    assert weights.digest == sha256(tmp_path / name)
    assert weights.mean == [0.485, 0.456, 0.406]
    assert net(x).shape == (2, 3)


def test_rows_of_the_head_are_kept_by_the_names_of_classes(source: nn.Module) -> None:
    cfg = config(of_file("plain.pth", classes=NAMES))
    x = torch.randn(3, 3, *SIZE)
    with torch.no_grad():
        theirs = source(x)
        for classes in (NAMES, ["e", "a", "c"]):
            net, weights = begun(cfg, classes)
            assert weights.drawn == []
            rows = [NAMES.index(c) for c in classes]
            assert net.eval()(x).numpy() == pytest.approx(theirs[:, rows].numpy(), abs=1e-4)
    assert begun(cfg, ["a", "z"])[1].drawn == ["fc.weight", "fc.bias"]


def test_the_first_layer_is_fitted_to_grey_images(source: nn.Module) -> None:
    net, _ = begun(config(of_file("plain.pth", classes=NAMES)), NAMES, in_chans=1)
    grey = torch.randn(2, 1, *SIZE)
    with torch.no_grad():
        assert net.eval()(grey).numpy() == pytest.approx(
            source(grey.expand(-1, 3, -1, -1)).numpy(), abs=1e-4
        )


def test_names_can_be_mapped(source: nn.Module, tmp_path: Path) -> None:
    other = {k.replace("layer", "stage"): v for k, v in source.state_dict().items()} | {
        "extra.x": torch.ones(1)
    }
    torch.save(other, tmp_path / "other.pth")
    with pytest.raises(
        UserError,
        match=naming("other.pth", "stage1.0.conv1.weight", "rename", "config/model/mine.yaml"),
    ):
        begun(config(of_file("other.pth")), NAMES)
    rename = {r"^stage(\d)": r"layer\1", "^extra": ""}
    net, _ = begun(config(of_file("other.pth", rename=rename, classes=NAMES)), NAMES)
    assert torch.equal(
        net.state_dict()["layer2.0.conv1.weight"], source.state_dict()["layer2.0.conv1.weight"]
    )


def test_weights_of_another_network_are_refused(source: nn.Module, tmp_path: Path) -> None:
    del source
    with pytest.raises(
        UserError, match=naming("plain.pth", "'resnet14t'", "layer1.0.conv3.weight")
    ):
        begun(config(of_file("plain.pth"), "resnet14t"), NAMES)
    with pytest.raises(UserError, match=naming("none.pth", "config/model/mine.yaml", WEIGHTS_ROOT)):
        find(config(of_file("none.pth")))
    (tmp_path / "junk.pth").write_bytes(b"no weights")
    with pytest.raises(UserError, match=naming("junk.pth", "state_dict")):
        find(config(of_file("junk.pth")))
    torch.save([torch.ones(2)], tmp_path / "list.pth")
    with pytest.raises(UserError, match=naming("list.pth", "list", "state_dict")):
        find(config(of_file("list.pth")))
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(UserError, match=naming("empty.pth", "state_dict")):
        find(config(of_file("empty.pth")))


@pytest.mark.parametrize("classes", [["x", "y"], ["q", "r", "s"]])
def test_a_model_of_another_study_brings_its_classes_and_normalisation(
    classes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEIGHTS_ROOT, str(tmp_path))
    plain_cfg = config(None, "dscnn", builder="edgeward", options={"width": 16, "blocks": 2})
    net = build(plain_cfg, num_classes=3, in_chans=3, image_size=SIZE)
    mean, std = [0.7, 0.5, 0.4], [0.2, 0.3, 0.1]
    meta = ModelMeta(
        model=plain_cfg.model_dump(mode="json"), task="multiclass", num_classes=3, n_labels=3, in_chans=3, image_size=[*SIZE],
        mean=mean, std=std, classes=["x", "y", "z"], logit_shift=[0.0] * 3, data="theirs", seed=0,
    )  # fmt: skip
    save_checkpoint(tmp_path / "model.pt", Deployable(net, mean, std), meta)
    cfg = config(
        of_file("model.pt"), "dscnn", builder="edgeward", options={"width": 16, "blocks": 2}
    )
    mine, weights = begun(cfg, classes)
    assert (weights.mean, weights.std) == (mean, std)
    x = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        theirs, ours = net.eval()(x), mine.eval()(x)
    if classes == ["x", "y"]:
        assert weights.drawn == []
        assert ours.numpy() == pytest.approx(theirs[:, :2].numpy(), abs=1e-5)
    else:
        assert weights.drawn == weights.head
        assert len(weights.head) == 2


def test_published_weights_need_a_tag_that_there_is_and_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserError, match=naming("resnet10t.none", "resnet10t.c3_in1k")):
        find(config({"kind": "pretrained", "tag": "none"}))
    with pytest.raises(UserError, match=naming("'edgeward'", "pretrained")):
        find(config("pretrained", "dscnn", builder="edgeward"))

    def offline(*args: Any, **kwargs: Any) -> nn.Module:
        raise OSError("no route to host")

    cfg = config("pretrained")
    weights = find(cfg)
    assert weights is not None
    assert weights.source.startswith("timm ")
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        UserError, match=naming("resnet10t", "no route to host", "model.safetensors", "path")
    ):
        build(cfg, num_classes=5, in_chans=3, image_size=SIZE, weights=weights, classes=NAMES)


def test_wrappers_and_prefixes_go() -> None:
    t = torch.ones(2)
    assert [*plain({"model": {"module.net.a": t, "module.net.b": t}, "epoch": 4})] == ["a", "b"]
    assert [*plain({"net.a": t, "head": t})] == ["net.a", "head"]
    assert [*renamed({"x.a": t, "y.a": t}, {"^x": "z", "^y": ""})] == ["z.a"]


def test_packaged_weights_compute_what_their_own_code_computes() -> None:
    cfg = ModelConfig.model_validate(shipped("model", "efficientnet_lite0_imagenet"))
    weights = find(cfg)
    assert weights is not None
    classes = [f"class{i}" for i in range(1000)]
    weights.classes = classes  # the head is kept
    net = build(
        cfg, num_classes=1000, in_chans=3, image_size=(64, 64), weights=weights, classes=classes
    ).eval()
    theirs = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights_file(cfg))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(net(images), theirs.eval()(images), rtol=1e-4, atol=1e-4)


def weights_file(cfg: ModelConfig) -> str:
    assert isinstance(cfg.weights, FileWeights)
    assert cfg.weights.place.is_file()
    return str(cfg.weights.place)


def test_a_package_that_is_not_installed_is_named() -> None:
    cfg = config(of_file("models/a.pth", package="not_there_at_all"))
    with pytest.raises(UserError, match=naming("not_there_at_all", "models/a.pth", WEIGHTS_ROOT)):
        find(cfg)
