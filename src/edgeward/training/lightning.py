"""The Lightning side of training: module, data module, and the callback that keeps its state.

All random numbers are functions of (seed, epoch, step), so the only state is what `Progress` saves
after each epoch: weights, their average, optimizer, schedule, history and the best weights so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from edgeward.models.deploy import reparameterize
from edgeward.tasks.batches import stream
from edgeward.tasks.training import Batch, Item, TrainingTask
from edgeward.training.config import TrainConfig
from edgeward.training.history import (
    Pace,
    Row,
    best_epoch,
    check_finite,
    curve,
    finished,
    log_epoch,
)
from edgeward.training.optim import Average, Backbone, adamw, cosine

Live = Callable[[int, dict[str, float]], None]


class _Reader(Dataset[Batch]):
    """A data set whose items are whole batches, read from the memory map when asked for."""

    def __init__(self, task: TrainingTask, *, training: bool) -> None:
        self.task, self.training = task, training

    def __getitem__(self, item: Item) -> Batch:
        return self.task.read(item, training=self.training)


class Batches(pl.LightningDataModule):
    """Batches of a prepared data set; augmentation runs on the device, on the whole batch."""

    def __init__(self, task: TrainingTask, cfg: TrainConfig, seed: int) -> None:
        super().__init__()
        self.task, self.cfg, self.seed = task, cfg, seed

    def _loader(self, items: Sequence[Item], *, training: bool) -> DataLoader:
        reader = _Reader(self.task, training=training)
        return DataLoader(reader, batch_size=None, sampler=items, num_workers=0)

    def train_dataloader(self) -> DataLoader:
        """Return the batches of the current epoch; the trainer asks again every epoch."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        items = self.task.train_items(self.cfg.batch_size, seed=self.seed, epoch=epoch)
        return self._loader(items, training=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.task.val_items(self.cfg.batch_size), training=False)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Turn stored images into augmented (training only) float32 ones, on the device."""
        del dataloader_idx
        images, labels = batch
        batch = self.task.to_input(images), labels
        if self.trainer is not None and self.trainer.training:
            # global_step counts optimizer steps, so it is the same number after a resume
            key = stream(self.seed, self.trainer.global_step, 1)
            batch = self.task.augment(batch, self.cfg.augment, torch.Generator().manual_seed(key))
        return batch


class Learner(pl.LightningModule):
    """A `Deployable` in training, with the moving average that is evaluated and shipped."""

    def __init__(
        self,
        model: nn.Module,
        cfg: TrainConfig,
        task: TrainingTask,
        *,
        seed: int,
        total_steps: int,
        backbone: Backbone | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.average = Average(model, cfg.ema_decay)
        self.cfg, self.task = cfg, task
        self.seed, self.total_steps, self.backbone = seed, total_steps, backbone
        self.losses: list[torch.Tensor] = []
        self.observed: list[tuple[np.ndarray, ...]] = []
        self.metrics: dict[str, float] = {}
        self.judged: tuple[nn.Module, ...] = ()  # a tuple, so that it is no part of the state

    def on_train_epoch_start(self) -> None:
        self.losses.clear()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        del batch, batch_idx
        torch.manual_seed(stream(self.seed, self.global_step, 2))  # dropout, stochastic depth

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        loss = self.task.loss(self.model, images, labels)
        check_finite(float(loss.detach()), self.current_epoch, batch_idx)
        self.losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        del outputs, batch, batch_idx
        self.average.update(self.model)

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        """Clip the norm here: Lightning refuses to together with the fused optimizer and bf16."""
        del optimizer, args, kwargs
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg.grad_clip)

    def on_validation_epoch_start(self) -> None:
        # one branch instead of many: the same outputs in a third of the time for MobileOne
        self.judged = (reparameterize(self.average.net).to(memory_format=self.task.layout),)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        del batch_idx
        self.observed.append(self.task.observe(self.judged[0], *batch))

    def on_validation_epoch_end(self) -> None:
        self.metrics = self.task.metrics(self.observed)
        self.observed.clear()
        self.judged = ()

    def configure_optimizers(self) -> Any:
        optimizer = adamw(self.model, self.cfg, self.backbone)
        frozen = 0 if self.backbone is None else self.backbone.frozen_steps
        schedule = cosine(optimizer, self.total_steps, self.cfg.warmup_fraction, frozen)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Progress(pl.Callback):
    """Record each epoch, keep the best weights, stop early, and save what a resume needs."""

    def __init__(self, cfg: TrainConfig, checkpoint: Path, images: int, live: Live | None) -> None:
        self.cfg, self.checkpoint, self.images, self.live = cfg, checkpoint, images, live
        self.history: list[Row] = []
        self.best: dict[str, torch.Tensor] = {}
        self.trained = 0.0
        self.pace = Pace(1, cfg.epochs, 1)

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history, self.best = state_dict["history"], state_dict["best"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        del pl_module
        steps = int(trainer.num_training_batches)
        self.pace = Pace(len(self.history) + 1, self.cfg.epochs, steps)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        del trainer, outputs, batch, batch_idx
        assert isinstance(pl_module, Learner)
        self.pace.step(pl_module.losses)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        del trainer, pl_module
        self.trained = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        now, task = time.perf_counter(), pl_module.task
        row: Row = {
            "epoch": len(self.history) + 1,
            "train_loss": float(torch.stack(pl_module.losses).mean()),
            **pl_module.metrics,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "images_per_second": self.images / (self.trained - self.pace.started),
            "seconds": now - self.pace.started,
        }
        self.history.append(row)
        if best_epoch(self.history, task.watched) == len(self.history) - 1:
            state = pl_module.average.net.state_dict()
            self.best = {key: value.detach().cpu().clone() for key, value in state.items()}
        log_epoch(row, self.cfg.epochs, task.shown)
        trainer.should_stop |= finished(
            self.history, task.watched, self.cfg.epochs, self.cfg.early_stop_patience
        )
        # Lightning writes into a temporary file and renames it: the file is whole or the last one
        trainer.save_checkpoint(self.checkpoint)
        if self.live is not None:
            self.live(int(row["epoch"]), curve(row))
