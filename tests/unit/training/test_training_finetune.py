"""Fine-tuning: improves, resumes exactly, refuses a loss of another shift, needs no Lightning."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from refusals import naming
from shipped import shipped
from small_data import meta
from torch import nn

from edgeward.core.errors import UserError
from edgeward.data.store import Prepared
from edgeward.models.config import ModelConfig
from edgeward.models.deploy import Deployable
from edgeward.models.factory import build
from edgeward.training.config import FinetuneConfig, LearningConfig, TrainConfig
from edgeward.training.finetune import finetune
from edgeward.training.history import Pace, Row


def config(**changes: Any) -> FinetuneConfig:
    values = shipped("train", "default")
    values = {key: values[key] for key in LearningConfig.model_fields}
    return FinetuneConfig(
        **{**values, "constraint": None, "epochs": 4, "batch_size": 16, "lr": 0.01, **changes}
    )


def network() -> nn.Module:
    torch.manual_seed(0)
    cfg = ModelConfig(
        name="tiny",
        builder="edgeward",
        architecture="dscnn",
        dense=False,
        family="cnn",
        drop_rate=0.2,
        branch_gain=1.0,
        options={"width": 16, "blocks": 2},
    )
    net = build(cfg, num_classes=3, in_chans=3, image_size=(32, 32))
    return Deployable(net, [0.5, 0.5, 0.5], [0.2, 0.2, 0.2])


Tune = Callable[..., list[Row]]
"""`finetune` of a network on the small data."""


@pytest.fixture
def tune(small_prepared: Prepared, tmp_path: Path) -> Tune:
    counts = np.bincount(small_prepared.labels[small_prepared.indices("train")])
    shifted = meta(logit_shift=np.log(counts / counts.sum()).tolist())

    def call(model: nn.Module, work: str = "work", **changes: Any) -> list[Row]:
        (tmp_path / work).mkdir(exist_ok=True)
        arguments: dict[str, Any] = {
            "cfg": config(),
            "meta": shifted,
            "set_train": lambda m: m.train(),
            "set_eval": lambda m: m.eval(),
        }
        return finetune(
            model, small_prepared, seed=1, work=tmp_path / work, threads=1, **arguments | changes
        )

    return call


class Stopped(Exception):
    pass


def test_it_learns_and_reports_every_epoch(tune: Tune) -> None:
    model, seen, hooks = network(), list[tuple[int, dict[str, float]]](), list[int]()
    history = tune(model, live=lambda e, m: seen.append((e, m)), on_epoch_start=hooks.append)
    assert hooks == [0, 1, 2, 3]
    assert [e for e, _ in seen] == [1, 2, 3, 4] == [row["epoch"] for row in history]
    assert history[-1]["train_loss"] < history[0]["train_loss"] / 2
    assert history[-1]["val_auc"] > 0.9
    assert not model.training


def test_interrupted_it_resumes_to_the_same_weights(tune: Tune) -> None:
    whole, halved, again = network(), network(), network()
    expected = tune(whole, "a")

    def interrupt(epoch: int, metrics: dict[str, float]) -> None:
        if epoch == 2:
            raise Stopped

    with pytest.raises(Stopped):
        tune(halved, "b", live=interrupt)
    hooks: list[int] = []
    history = tune(again, "b", on_epoch_start=hooks.append)
    assert hooks == [2, 3]
    state = whole.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())
    assert [row["val_loss"] for row in history] == [row["val_loss"] for row in expected]


def test_modes_are_set_by_the_caller_alone(tune: Tune) -> None:
    """A module without train() and eval(), as exported programs are."""

    class Exported(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def train(self, mode: bool = True) -> nn.Module:
            raise NotImplementedError

        def eval(self) -> nn.Module:
            raise NotImplementedError

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

    modes: list[str] = []
    tune(
        Exported(),
        cfg=config(epochs=2),
        set_train=lambda m: modes.append("train"),
        set_eval=lambda m: modes.append("eval"),
    )
    assert modes == ["train", "eval", "train", "eval", "eval"]


def test_loss_with_another_shift_is_refused(tune: Tune) -> None:
    values = config().loss.model_dump()
    other = config(loss={**values, "name": "cross_entropy"})
    with pytest.raises(UserError, match=naming("'cross_entropy'", "${train.loss}")):
        tune(network(), cfg=other)


def test_own_loss_replaces_the_configured_one(tune: Tune) -> None:
    calls: list[int] = []

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        calls.append(len(labels))
        return nn.functional.cross_entropy(logits, labels)

    tune(network(), cfg=config(epochs=1), loss=loss)
    assert len(calls) > 3
    assert set(calls) == {16}


def test_divergence_and_a_broken_state_are_clear_errors(tune: Tune, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=naming("config/train/", "'lr'", "'grad_clip'")):
        tune(network(), cfg=config(lr=1e18, grad_clip=1e18, warmup_fraction=0.0))
    (tmp_path / "work" / "finetune.pt").write_bytes(b"half a file")
    with pytest.raises(UserError, match=naming("finetune.pt", "KeyError")):
        tune(network())


def test_neither_lightning_nor_timm_is_imported() -> None:
    code = (
        "import edgeward.training.finetune, sys; "
        "assert not {'pytorch_lightning', 'timm', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_configs_are_read_without_torch() -> None:
    code = "import edgeward.training.config, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fine_tuning_shares_all_keys_of_training_but_the_constraint() -> None:
    shared = set(FinetuneConfig.model_fields) & set(TrainConfig.model_fields)
    assert shared == set(FinetuneConfig.model_fields) - {"constraint"}
    assert shared == set(LearningConfig.model_fields)


def test_a_constraint_is_not_silently_left_out(tune: Tune) -> None:
    """A step that forgets to hand it over must not train without it."""
    limits = shipped("compress", "safe_qat_int8")
    asked = limits["steps"][-1]["finetune"]["constraint"]
    asked["acceptance"]["margins"] = {"recall": 0.05, "ece": 0.02}
    with pytest.raises(ValueError, match=naming("cfg.constraint", "constraint")):
        tune(network(), cfg=config(constraint=asked))


def test_every_epoch_says_how_far_it_is(
    tune: Tune,
    small_prepared: Prepared,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(Pace, "EVERY_S", 0.0)
    caplog.set_level(logging.INFO)
    tune(network(), cfg=config(epochs=1))
    steps = len(small_prepared.indices("train")) // 16
    lines = [m for m in caplog.messages if m.startswith("epoch 1/1, ")]
    expected = [f"{100 * step / steps:.0f} %" for step in range(1, steps)]
    assert [line.split(", ")[1].split(":")[0] for line in lines] == expected
