"""Further training of an already trained network, in plain torch: for QAT, pruning, distillation.

It shares batches, augmentation, losses and metrics with the ``train`` stage, but not Lightning: an exported
program has no train() and eval() of its own, and importing Lightning costs seconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from edgeward.core.io import atomic
from edgeward.data.store import Prepared
from edgeward.models.checkpoint import read_tensors
from edgeward.records.recipe import ModelMeta
from edgeward.tasks.batches import stream
from edgeward.tasks.inputs import patches_of
from edgeward.tasks.training import Batch, Item, Loss, TrainingTask
from edgeward.training.config import FinetuneConfig
from edgeward.training.history import Pace, Row, check_finite, curve, log_epoch
from edgeward.training.optim import adamw, cosine
from edgeward.training.small_maps import SmallMaps
from edgeward.training.task import check_shift, training_task

logger = logging.getLogger(__name__)

Mode = Callable[[nn.Module], None]
Live = Callable[[int, dict[str, float]], None]
STATE = "finetune.pt"


class Constraint(Protocol):
    """What has to hold besides a small loss; `edgeward.compression.constraint` makes one."""

    every: int
    """Steps from one constraint batch to the next."""

    def backward(self, model: nn.Module, step: int) -> None:
        """Add to the gradients of `model`, which is in eval mode; `step` counts from 0 over all epochs."""

    def close_epoch(self) -> dict[str, float]:
        """Return what the epoch's row should hold."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""


def finetune(
    model: nn.Module,
    data: Prepared,
    cfg: FinetuneConfig,
    *,
    seed: int,
    work: Path,
    threads: int,
    meta: ModelMeta,
    set_train: Mode,
    set_eval: Mode,
    on_epoch_start: Callable[[int], None] | None = None,
    on_step_start: Callable[[int, int], None] | None = None,
    live: Live | None = None,
    loss: Loss | None = None,
    constraint: Constraint | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> list[Row]:
    """Train `model` in place and leave it in eval mode with the weights of the last epoch.

    Killed and called again with the same arguments, it goes on after its last whole epoch and ends with
    the same weights, bit for bit, on the same machine and threads.

    Parameters
    ----------
    model : from images float32 (b, c, *spatial), 0-255, to logits: (b, n_classes), or for segmentation
        (b, n_labels, *spatial).
    work : folder that holds the state of the last whole epoch, ``finetune.pt``.
    meta : of the trained model (``model.pt``); its ``logit_shift`` must be that of ``cfg.loss``, and
        volumes are cut into its ``patches``.
    set_train, set_eval : put the model into the mode, e.g. torchao's
        ``move_exported_model_to_train`` and ``_eval``.
    on_epoch_start : called with the epoch, from 0, after `set_train` and before its first batch. After a
        resume it sees only the epochs that are left, so it must act by the number, not by counting.
    on_step_start : called with (step from 0, number of all steps) before every step; for it, too, only
        the number counts.
    live : called with (epoch from 1, metrics) after every epoch.
    loss : replaces the loss of ``cfg.loss``, e.g. for distillation.
    constraint : of ``cfg.constraint``, from `edgeward.compression.constraint.training.constrain`. Its gradients
        are those of the network as it would ship (eval mode) and join those of the loss.
    memory_format : layout of the images. channels_last is faster, but an exported program may hold
        views that fit only the layout of the example that it was exported with.

    Returns
    -------
    One row an epoch, as in ``history.csv``.

    Raises
    ------
    UserError
        If the loss disagrees with the trained model's ``logit_shift``, or training diverges.
    """
    if (cfg.constraint is None) != (constraint is None):
        raise ValueError("cfg.constraint and the argument constraint go together")
    torch.set_num_threads(threads)
    task = training_task(data, cfg.loss, patches=patches_of(meta), layout=memory_format)
    check_shift(task, cfg.loss, meta.logit_shift)
    task.criterion = loss or task.criterion
    steps = len(task.train_items(cfg.batch_size, seed=seed, epoch=0))
    optimizer = adamw(model, cfg)
    schedule = cosine(optimizer, cfg.epochs * steps, cfg.warmup_fraction)
    history = _restore(work / STATE, model, optimizer, schedule, constraint)
    for epoch in range(len(history), cfg.epochs):
        set_train(model)
        if on_epoch_start is not None:
            on_epoch_start(epoch)
        pace = Pace(epoch + 1, cfg.epochs, steps)
        items = task.train_items(cfg.batch_size, seed=seed, epoch=epoch)
        losses: list[float] = []
        for step, item in enumerate(items):
            if on_step_start is not None:
                on_step_start(epoch * steps + step, cfg.epochs * steps)
            images, labels = _load(task, item, cfg, stream(seed, epoch * steps + step, 1))
            torch.manual_seed(stream(seed, epoch * steps + step, 2))  # dropout
            with SmallMaps():
                value = task.loss(model, images, labels)
            losses.append(float(value.detach()))
            check_finite(losses[-1], epoch, step)
            value.backward()
            if constraint is not None and (epoch * steps + step) % constraint.every == 0:
                set_eval(model)
                with SmallMaps():
                    constraint.backward(model, epoch * steps + step)
                set_train(model)
            torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.grad_clip)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            pace.step(losses)
        trained = time.perf_counter()
        set_eval(model)
        row: Row = {
            "epoch": epoch + 1,
            "train_loss": float(np.mean(losses)),
            **evaluate(model, task, cfg.batch_size),
            **({} if constraint is None else constraint.close_epoch()),
            "lr": optimizer.param_groups[0]["lr"],
            "images_per_second": sum(len(item.indices) for item in items)
            / (trained - pace.started),
            "seconds": time.perf_counter() - pace.started,
        }
        history.append(row)
        log_epoch(row, cfg.epochs, task.shown)
        _save(work / STATE, model, optimizer, schedule, constraint, history)
        if live is not None:
            live(epoch + 1, curve(row))
    set_eval(model)
    return history


def evaluate(model: nn.Module, task: TrainingTask, batch_size: int) -> dict[str, float]:
    """Return the validation metrics of a model that is already in eval mode."""
    return task.metrics(observed(model, task, batch_size))


@torch.no_grad()
def observed(model: nn.Module, task: TrainingTask, batch_size: int) -> list[tuple[np.ndarray, ...]]:
    """Return what the task observes of a model, already in eval mode, on the validation split."""
    out = []
    for item in task.val_items(batch_size):
        images, labels = task.read(item, training=False)
        out.append(task.observe(model, task.to_input(images), labels))
    return out


def _load(task: TrainingTask, item: Item, cfg: FinetuneConfig, key: int) -> Batch:
    images, labels = task.read(item, training=True)
    generator = torch.Generator().manual_seed(key)
    return task.augment((task.to_input(images), labels), cfg.augment, generator)


def _save(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    constraint: Constraint | None,
    history: list[Row],
) -> None:
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "constraint": None if constraint is None else constraint.state_dict(),
        "history": history,
    }
    with atomic(path) as temporary:
        torch.save(state, temporary)


def _restore(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    constraint: Constraint | None,
) -> list[Row]:
    """Load the state of the last whole epoch, if there is one; return the history so far."""
    if not path.is_file():
        return []
    state = read_tensors(path)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    if constraint is not None:
        constraint.load_state_dict(state["constraint"])
    logger.info("resuming fine-tuning after epoch %d", len(state["history"]))
    return list(state["history"])
