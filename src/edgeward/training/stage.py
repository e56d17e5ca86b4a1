"""The ``train`` stage: from prepared data to ``model.pt`` and ``history.csv``."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import timm  # noqa: F401 - loaded here so that it counts as start-up
import torch

from edgeward.core.errors import UserError
from edgeward.data.store import Prepared, open_prepared
from edgeward.models.checkpoint import read_tensors, save_checkpoint
from edgeward.models.config import ModelConfig
from edgeward.models.deploy import Deployable
from edgeward.models.factory import build
from edgeward.training.batches import epoch_batches, read, stream, to_float
from edgeward.training.config import TrainConfig
from edgeward.training.history import Row, best_epoch, curve, finished, write_history
from edgeward.training.lightning import LAYOUTS, Classifier, ImageData, Progress
from edgeward.training.loss import logit_shift, make_loss, train_counts
from edgeward.training.precision import choose_precision

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
    """Train `model` from scratch; write ``out/model.pt`` and ``out/history.csv``.

    Parameters
    ----------
    prepared : folder of a prepared classification data set.
    work : folder for the state of an unfinished run. A run that was killed goes on from its last
        whole epoch and ends with the same weights, bit for bit, on the same machine and threads.
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
    counts = train_counts(data)
    shift = logit_shift(train.loss, counts, train.sampling)
    torch.manual_seed(stream(seed, 0))
    deployable = _deployable(model, data)
    layout = LAYOUTS[train.memory_format]
    deployable.to(memory_format=layout)
    first = epoch_batches(data, train.batch_size, seed=seed, epoch=0, sampling=train.sampling)
    loss = make_loss(train.loss, counts)
    images, labels = read(data, first[0])
    precision = choose_precision(
        deployable, train, loss, (to_float(images, layout), labels), device, work / "precision.json"
    )
    task = Classifier(
        deployable,
        train,
        loss=loss,
        shift=shift,
        rare=[data.classes.index(name) for name in data.card["rare_classes"]],
        seed=seed,
        total_steps=train.epochs * len(first),
    )
    progress = Progress(train, work / LAST, len(first) * len(first[0]), live)
    _fit(task, progress, ImageData(data, train, seed), train, precision, device, work)

    if train.select == "best":
        task.average.net.load_state_dict(progress.best)
    meta = {
        "model": model.model_dump(),
        "num_classes": len(data.classes),
        "task": "classification",
        "spatial_dims": 2,
        "n_labels": len(data.classes),
        "in_chans": data.images.shape[-1],
        "image_size": list(data.images.shape[1:3]),
        "mean": data.card["channel_mean"],
        "std": data.card["channel_std"],
        "classes": data.classes,
        "logit_shift": shift.tolist(),
        "data": data.card["name"],
        "seed": seed,
    }
    save_checkpoint(out / "model.pt", task.average.net, meta)
    write_history(out / "history.csv", progress.history)
    (work / LAST).unlink()
    return _summary(progress.history, train, deployable, precision)


def _device(train: TrainConfig) -> torch.device:
    available = torch.cuda.is_available()
    if train.accelerator == "cuda" and not available:
        raise UserError(
            "train.accelerator is 'cuda' but torch finds no GPU; set it to 'auto' or 'cpu' in config/train/."
        )
    return torch.device("cuda" if available and train.accelerator != "cpu" else "cpu")


def _deployable(model: ModelConfig, data: Prepared) -> Deployable:
    n, h, w, c = data.images.shape
    net = build(model, num_classes=len(data.classes), in_chans=c, image_size=(h, w))
    logger.info(
        "%s: %.2f M parameters, %d images of %dx%dx%d", model.name, _millions(net), n, h, w, c
    )
    return Deployable(net, data.card["channel_mean"], data.card["channel_std"])


def _millions(net: torch.nn.Module) -> float:
    return sum(p.numel() for p in net.parameters()) / 1e6


def _fit(
    task: Classifier,
    progress: Progress,
    images: ImageData,
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
        if finished(progress.history, train.epochs, train.early_stop_patience):
            task.load_state_dict(saved["state_dict"])
            return
    _quiet()
    trainer = pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if precision == "bf16" else "32-true",
        max_epochs=train.epochs,
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
    trainer.fit(task, images, ckpt_path=resume, weights_only=True)


def _quiet() -> None:
    """Keep Lightning's advice and banners out of the log; its errors still raise."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")


def _summary(
    history: list[Row], train: TrainConfig, model: torch.nn.Module, precision: str
) -> dict[str, float]:
    shipped: dict[str, Any] = history[best_epoch(history) if train.select == "best" else -1]
    names = ("val_loss", "val_auc", "val_balanced_accuracy", "val_rare_recall", "train_loss")
    return {
        **{name: value for name, value in curve(shipped).items() if name in names},
        "epoch": shipped["epoch"],
        "epochs": len(history),
        "images_per_second": sum(r["images_per_second"] for r in history) / len(history),
        "train_s": sum(row["seconds"] for row in history),
        "parameters": sum(p.numel() for p in model.parameters()),
        "bf16": float(precision == "bf16"),
    }
