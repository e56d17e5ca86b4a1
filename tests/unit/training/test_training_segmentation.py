"""The train stage on segmentation data, in the plane and in volumes: learning, resume, refusals."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from refusals import naming
from shipped import all_of, shipped

from edgeward.core.errors import UserError
from edgeward.data.store import Prepared
from edgeward.models.checkpoint import load_checkpoint
from edgeward.models.config import ModelConfig
from edgeward.tasks.segmentation.train import Segmentation
from edgeward.training.config import FinetuneConfig, TrainConfig
from edgeward.training.finetune import evaluate, finetune
from edgeward.training.stage import run
from edgeward.training.task import training_task

PATCHES = {"size": [16, 16, 16], "per_case": 1, "foreground": 0.6, "overlap": 0.25, "windows": 4}


def model(**changes: Any) -> ModelConfig:
    values = shipped("model", "u_lite") | changes
    values["options"] |= {"widths": [4, 8, 16], "kernel": 5}
    return ModelConfig(**values)


def settings(dims: int, **changes: Any) -> TrainConfig:
    values = shipped("train", f"segmentation{dims}d")
    small = {"epochs": 4, "batch_size": 4, "precision": "fp32", "accelerator": "cpu"}
    if dims == 3:
        small["patches"] = PATCHES
    return TrainConfig(**values | small | {"lr": 0.02, "ema_decay": 0.7} | changes)


def train(data: Prepared, root: Path, live: Any = None, **changes: Any) -> dict[str, float]:
    work = root / "work"
    work.mkdir(parents=True, exist_ok=True)
    return run(
        model(),
        settings(data.spatial_dims, **changes),
        seed=3,
        prepared=data.root,
        out=root / "out",
        work=work,
        threads=1,
        live=live,
    )


class Stopped(Exception):
    pass


@pytest.mark.parametrize("name", ["small_masks", "small_volumes"])
def test_it_learns_and_resumes_bit_for_bit(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data = request.getfixturevalue(name)
    metrics = train(data, tmp_path / "whole")
    net, meta = load_checkpoint(tmp_path / "whole" / "out" / "model.pt")
    assert metrics["val_dice_organ"] > 0.8
    assert (meta.task, meta.n_labels, meta.spatial_dims) == (
        "segmentation",
        3,
        data.spatial_dims,
    )
    assert meta.logit_shift == [0.0, 0.0, 0.0]
    patches = None if data.volumes is None else settings(3).patches
    assert meta.image_size == ([32, 32] if patches is None else [16, 16, 16])
    task = training_task(data, settings(2).loss, patches=patches)
    for key, value in evaluate(net.eval(), task, 4).items():
        assert metrics[key] == pytest.approx(value, abs=1e-4)
    rows = list(csv.DictReader((tmp_path / "whole" / "out" / "history.csv").open()))
    assert list(rows[0]) == [
        "epoch", "train_loss", "val_loss", "val_dice", "val_dice_organ", "val_dice_spot", "lr",
        "images_per_second", "seconds",
    ]  # fmt: skip
    assert metrics["val_dice"] == pytest.approx(max(float(row["val_dice"]) for row in rows))

    def stop(epoch: int, row: dict[str, float]) -> None:
        if epoch == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train(data, tmp_path / "halved", live=stop)
    seen: list[int] = []
    train(data, tmp_path / "halved", live=lambda epoch, _: seen.append(epoch))
    assert seen == [3, 4]
    again, _ = load_checkpoint(tmp_path / "halved" / "out" / "model.pt")
    state = net.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())


@pytest.mark.parametrize("name", ["small_masks", "small_volumes"])
def test_fine_tuning_goes_on_from_there(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data = request.getfixturevalue(name)
    train(data, tmp_path, epochs=2)
    net, meta = load_checkpoint(tmp_path / "out" / "model.pt")
    values = settings(data.spatial_dims, epochs=2, lr=0.005).model_dump(mode="json")
    cfg = FinetuneConfig(**{k: values.get(k) for k in FinetuneConfig.model_fields})
    (tmp_path / "tune").mkdir()
    before = torch.cat([p.flatten() for p in net.parameters()]).detach().clone()
    arguments: dict[str, Any] = {
        "seed": 1, "threads": 1, "meta": meta,
        "set_train": lambda m: m.train(), "set_eval": lambda m: m.eval(),
    }  # fmt: skip
    history = finetune(net, data, cfg, work=tmp_path / "tune", **arguments)
    assert [row["epoch"] for row in history] == [1, 2]
    assert history[-1]["val_dice_organ"] > 0.5
    assert not torch.equal(before, torch.cat([p.flatten() for p in net.parameters()]))


def test_divergence_is_named(small_masks: Prepared, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=naming("config/train/", "'lr'", "'grad_clip'")):
        train(small_masks, tmp_path, lr=1e18, grad_clip=1e18, warmup_fraction=0.0)


SHIPPED = [name for name in all_of("train") if "segmentation" in name]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_config_is_valid_and_runs(
    name: str, small_masks: Prepared, small_volumes: Prepared, tmp_path: Path
) -> None:
    values = shipped("train", name)
    data = small_masks if values["patches"] is None else small_volumes
    metrics = train(data, tmp_path, **{**values, "epochs": 1, "precision": "fp32"})
    assert np.isfinite(metrics["val_loss"])


def test_volumes_are_judged_whole(small_volumes: Prepared) -> None:
    """Validation sees every voxel of a volume, in windows, and its prediction is that of the windows."""
    cfg = settings(3)
    task = training_task(small_volumes, cfg.loss, patches=cfg.patches)
    assert isinstance(task, Segmentation)

    class Threshold(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -torch.cat([(x - level) ** 2 for level in (90, 180, 10)], dim=1)

    items = task.val_items(8)
    assert [len(item.indices) for item in items] == [1] * len(small_volumes.indices("val"))
    images, masks = task.read(items[0], training=False)
    expected = small_volumes.case(int(items[0].indices[0]))
    np.testing.assert_array_equal(task.to_input(images)[0].numpy(), expected[0])
    np.testing.assert_array_equal(masks[0].numpy(), expected[1])
    whole = Threshold()(task.to_input(images))
    torch.testing.assert_close(task.logits(Threshold(), task.to_input(images)), whole)
    assert task.metrics([task.observe(Threshold(), task.to_input(images), masks)])["val_dice"] > 0.9
