"""The ``train`` stage: from prepared data to ``model.pt`` and ``history.csv``."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import timm  # noqa: F401 - loaded here so that it counts as start-up
import torch

from edgeward.core.errors import UserError
from edgeward.data.store import Prepared, open_prepared
from edgeward.models.checkpoint import read_tensors, save_checkpoint
from edgeward.models.config import ModelConfig
from edgeward.models.deploy import Deployable
from edgeward.models.factory import build
from edgeward.models.weights import Weights, find
from edgeward.records.recipe import ModelMeta
from edgeward.tasks.batches import stream
from edgeward.training.config import TrainConfig
from edgeward.training.finetune import observed
from edgeward.training.history import Row, best_epoch, curve, finished, write_history
from edgeward.training.lightning import Batches, Learner, Progress
from edgeward.training.optim import Backbone
from edgeward.training.precision import choose_precision
from edgeward.training.small_maps import SmallMaps
from edgeward.training.task import layout_of, training_task

logger = logging.getLogger(__name__)

LAST = "last.ckpt"


def run(
    model: ModelConfig,
    train: TrainConfig,
    *,
    seed: int,
    prepared: Path,
    out: Path,
    work: Path,
    threads: int,
    live: Callable[[int, dict[str, float]], None] | None = None,
) -> dict[str, float]:
    """Train `model`, from scratch or from weights; write ``out/model.pt`` and ``out/history.csv``.

    Parameters
    ----------
    prepared : folder of a prepared data set.
    work : folder for the state of the run. One that was killed goes on from its last whole epoch and ends with the same
        weights, bit for bit, on the same machine and threads; also one that was killed after its last epoch, so the
        caller removes the folder when it has counted the run as done.
    threads : CPU threads that torch may use.
    live : called with (epoch, metrics) after every epoch.

    Returns
    -------
    Flat metrics of the shipped weights and of the training.

    Raises
    ------
    UserError
        If model and data do not fit, a class has no training image, or training diverges.
    """
    torch.set_num_threads(threads)
    device = _device(train)
    data = open_prepared(prepared)
    task = training_task(
        data,
        train.loss,
        patches=train.patches,
        layout=layout_of(train.memory_format, data.spatial_dims),
        sampling=train.sampling,
    )
    torch.manual_seed(stream(seed, 0))
    weights = find(model)
    net = _network(model, data, train, weights)
    mean, std = _normalisation(data, weights, _channels(data))
    deployable = Deployable(net, mean, std, data.spatial_dims)
    deployable.to(memory_format=task.layout)
    first = task.train_items(train.batch_size, seed=seed, epoch=0)
    precision = "fp32"
    if train.epochs:
        images, labels = task.read(first[0], training=True)
        precision = choose_precision(
            deployable,
            train,
            task,
            (task.to_input(images), labels),
            device,
            work / "precision.json",
        )
    steps = train.epochs * len(first)
    backbone = _backbone(weights, train, len(first))
    learner = Learner(deployable, train, task, seed=seed, total_steps=steps, backbone=backbone)
    progress = Progress(train, work / LAST, len(first) * len(first[0].indices), live)
    if train.epochs:
        try:
            _fit(learner, progress, Batches(task, train, seed), train, precision, device, work)
        except UserError:  # it diverged: the epochs before, if there were any, tell how
            if progress.history:
                write_history(out / "history.csv", progress.history)
            raise
    else:
        _as_it_is(model, weights, learner, progress, Batches(task, train, seed), device, work)

    if train.select == "best" and train.epochs:
        learner.average.net.load_state_dict(progress.best)
    thresholds = None
    if task.sets_thresholds:
        seen = observed(learner.average.net.cpu().eval(), task, train.batch_size)
        thresholds = task.thresholds(seen).tolist()
    meta = ModelMeta(
        model=model.model_dump(mode="json"),
        task=data.task,
        spatial_dims=data.spatial_dims,
        num_classes=len(data.classes),
        n_labels=data.n_labels,
        in_chans=_channels(data),
        image_size=list(_size(data, train)),
        patches=None if train.patches is None else train.patches.model_dump(mode="json"),
        mean=mean,
        std=std,
        origin=None if weights is None else weights.origin,
        classes=data.classes,
        logit_shift=task.shift.tolist(),
        thresholds=thresholds,
        data=data.card.name,
        seed=seed,
    )
    save_checkpoint(out / "model.pt", learner.average.net, meta)
    write_history(out / "history.csv", progress.history)
    best = best_epoch(progress.history, task.watched) if train.select == "best" else -1
    return _summary(progress.history, best, deployable, precision)


def _backbone(weights: Weights | None, train: TrainConfig, steps: int) -> Backbone | None:
    """Return how layers learn that come from weights; `steps` are those of an epoch."""
    if weights is None:
        return None
    head = frozenset(f"net.{name}" for name in weights.head)
    return Backbone(head, train.backbone_lr, train.frozen_epochs * steps)


def _as_it_is(
    model: ModelConfig, weights: Weights | None, learner: Learner, progress: Progress, batches: Batches,
    device: torch.device, work: Path,
) -> None:  # fmt: skip
    """Judge the weights on validation, and train nothing.

    Raises
    ------
    UserError
        If a part of the network would be random.
    """
    anew = ["all of it"] if weights is None else weights.drawn
    if anew:
        raise UserError(
            f"train.epochs is 0, but '{model.name}' would be random in {', '.join(anew)}. Name weights and, for the head, their classes "
            f"(config/model/{model.name}.yaml, key 'weights'), or train for some epochs (config/train/)."
        )
    started = time.perf_counter()
    _trainer(1, progress, "fp32", device, work).validate(learner, batches, verbose=False)
    seconds, n = time.perf_counter() - started, float(progress.images)
    nothing = {"epoch": 0.0, "train_loss": math.nan}
    progress.history.append(
        {
            **nothing,
            **learner.metrics,
            "lr": 0.0,
            "images_per_second": n / seconds,
            "seconds": seconds,
        }
    )


def _device(train: TrainConfig) -> torch.device:
    available = torch.cuda.is_available()
    if train.accelerator == "cuda" and not available:
        raise UserError(
            "train.accelerator is 'cuda' but torch finds no GPU; set it to 'auto' or 'cpu' in config/train/."
        )
    return torch.device("cuda" if available and train.accelerator != "cpu" else "cpu")


def _size(data: Prepared, train: TrainConfig) -> tuple[int, ...]:
    """Return what the network is built for: the patch, or the whole image or volume."""
    if train.patches is not None:
        return train.patches.size
    return tuple(int(side) for side in data.images.shape[1:-1])


def _channels(data: Prepared) -> int:
    return data.images.shape[-1] if data.volumes is None else data.volumes[0].shape[0]


def _network(
    model: ModelConfig, data: Prepared, train: TrainConfig, weights: Weights | None
) -> torch.nn.Module:
    channels, size = _channels(data), _size(data, train)
    net = build(
        model,
        num_classes=data.n_labels,
        in_chans=channels,
        image_size=size,
        weights=weights,
        classes=data.outputs,
    )
    logger.info(
        "%s: %.2f M parameters, %d cases, input %s",
        model.name,
        _millions(net),
        len(data.labels),
        "x".join(map(str, (*size, channels))),
    )
    if weights is not None:
        anew = f"; drawn anew: {', '.join(weights.drawn)}" if weights.drawn else ""
        logger.info("starts from %s%s", weights.source, anew)
    return net


def _normalisation(
    data: Prepared, weights: Weights | None, channels: int
) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation that the weights expect, else those of the training images, per channel."""
    if weights is None or weights.mean is None or weights.std is None:
        return data.card.channel_mean, data.card.channel_std
    if len(weights.mean) == channels:
        return weights.mean, weights.std
    return [float(np.mean(weights.mean))] * channels, [float(np.mean(weights.std))] * channels


def _millions(net: torch.nn.Module) -> float:
    return sum(p.numel() for p in net.parameters()) / 1e6


def _fit(
    learner: Learner,
    progress: Progress,
    batches: Batches,
    train: TrainConfig,
    precision: str,
    device: torch.device,
    work: Path,
) -> None:
    """Train, or go on training, until `progress` says that it is finished."""
    resume = work / LAST if (work / LAST).is_file() else None
    if resume is not None:
        saved = read_tensors(resume)
        progress.load_state_dict(saved["callbacks"][progress.state_key])
        logger.info("resuming after epoch %d of %d", len(progress.history), train.epochs)
        if finished(
            progress.history, learner.task.watched, train.epochs, train.early_stop_patience
        ):
            learner.load_state_dict(saved["state_dict"])
            return
    trainer = _trainer(train.epochs, progress, precision, device, work)
    with SmallMaps():
        trainer.fit(learner, batches, ckpt_path=resume, weights_only=True)


def _trainer(
    epochs: int, progress: Progress, precision: str, device: torch.device, work: Path
) -> pl.Trainer:
    _quiet()
    return pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if precision == "bf16" else "32-true",
        max_epochs=epochs,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        deterministic="warn" if device.type == "cuda" else None,
        benchmark=False,
        use_distributed_sampler=False,
        callbacks=[progress],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=work,
    )


def _quiet() -> None:
    """Keep Lightning's advice and banners out of the log; its errors still raise."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")


def _summary(
    history: list[Row], shipped_epoch: int, model: torch.nn.Module, precision: str
) -> dict[str, float]:
    shipped: dict[str, Any] = history[shipped_epoch]
    return {
        **{
            name: value
            for name, value in curve(shipped).items()
            if name.startswith("val_") or name == "train_loss"
        },
        "epoch": shipped["epoch"],
        "epochs": len(history),
        "images_per_second": sum(r["images_per_second"] for r in history) / len(history),
        "train_s": sum(row["seconds"] for row in history),
        "parameters": sum(p.numel() for p in model.parameters()),
        "bf16": float(precision == "bf16"),
    }
