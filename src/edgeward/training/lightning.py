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

from edgeward.data.store import Prepared
from edgeward.models.deploy import reparameterize
from edgeward.training.augment import augment
from edgeward.training.batches import epoch_batches, read, split_batches, stream, to_float
from edgeward.training.config import TrainConfig
from edgeward.training.history import Row, best_epoch, curve, finished, log_epoch
from edgeward.training.loss import Loss
from edgeward.training.metrics import check_finite, validation_metrics
from edgeward.training.optim import Average, adamw, cosine

Live = Callable[[int, dict[str, float]], None]
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


class _Reader(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """A data set whose items are whole batches, read from the memory map when asked for."""

    def __init__(self, data: Prepared) -> None:
        self.data = data

    def __getitem__(self, indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return read(self.data, indices)


class ImageData(pl.LightningDataModule):
    """Batches of a prepared data set; augmentation runs on the device, on the whole batch."""

    def __init__(self, data: Prepared, cfg: TrainConfig, seed: int) -> None:
        super().__init__()
        self.data, self.cfg, self.seed = data, cfg, seed
        self.layout = LAYOUTS[cfg.memory_format]

    def _loader(self, batches: Sequence[np.ndarray]) -> DataLoader:
        return DataLoader(_Reader(self.data), batch_size=None, sampler=batches, num_workers=0)

    def train_dataloader(self) -> DataLoader:
        """Return the batches of the current epoch; the trainer asks again every epoch."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        return self._loader(
            epoch_batches(
                self.data,
                self.cfg.batch_size,
                seed=self.seed,
                epoch=epoch,
                sampling=self.cfg.sampling,
            )
        )

    def val_dataloader(self) -> DataLoader:
        return self._loader(split_batches(self.data, "val", 2 * self.cfg.batch_size))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Turn uint8 images into augmented (training only) float32 ones, on the device."""
        del dataloader_idx
        images, labels = batch
        images = to_float(images, self.layout)
        if self.trainer is not None and self.trainer.training:
            # global_step counts optimizer steps, so it is the same number after a resume
            key = stream(self.seed, self.trainer.global_step, 1)
            images = augment(images, self.cfg.augment, torch.Generator().manual_seed(key))
            images = images.contiguous(memory_format=self.layout)
        return images, labels


class Classifier(pl.LightningModule):
    """A `Deployable` in training, with the moving average that is evaluated and shipped."""

    def __init__(
        self,
        model: nn.Module,
        cfg: TrainConfig,
        *,
        loss: Loss,
        shift: np.ndarray,
        rare: Sequence[int],
        seed: int,
        total_steps: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.average = Average(model, cfg.ema_decay)
        self.cfg, self.loss, self.shift, self.rare = cfg, loss, shift, rare
        self.seed, self.total_steps = seed, total_steps
        self.losses: list[torch.Tensor] = []
        self.outputs: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.metrics: dict[str, float] = {}
        self.judged: tuple[nn.Module, ...] = ()  # a tuple, so that it is no part of the state

    def on_train_epoch_start(self) -> None:
        self.losses.clear()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        del batch, batch_idx
        torch.manual_seed(stream(self.seed, self.global_step, 2))  # dropout, stochastic depth

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        loss = self.loss(self.model(images).float(), labels)
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
        layout = LAYOUTS[self.cfg.memory_format]
        self.judged = (reparameterize(self.average.net).to(memory_format=layout),)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        del batch_idx
        images, labels = batch
        self.outputs.append((self.judged[0](images).float().cpu(), labels.cpu()))

    def on_validation_epoch_end(self) -> None:
        logits, labels = (torch.cat(parts).numpy() for parts in zip(*self.outputs, strict=True))
        self.outputs.clear()
        self.judged = ()
        self.metrics = validation_metrics(logits, labels, self.shift, self.rare)

    def configure_optimizers(self) -> Any:
        optimizer = adamw(self.model, self.cfg)
        schedule = cosine(optimizer, self.total_steps, self.cfg.warmup_fraction)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Progress(pl.Callback):
    """Record each epoch, keep the best weights, stop early, and save what a resume needs."""

    def __init__(self, cfg: TrainConfig, checkpoint: Path, images: int, live: Live | None) -> None:
        self.cfg, self.checkpoint, self.images, self.live = cfg, checkpoint, images, live
        self.history: list[Row] = []
        self.best: dict[str, torch.Tensor] = {}
        self.started = self.trained = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history, self.best = state_dict["history"], state_dict["best"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        del trainer, pl_module
        self.started = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        del trainer, pl_module
        self.trained = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        now = time.perf_counter()
        row: Row = {
            "epoch": len(self.history) + 1,
            "train_loss": float(torch.stack(pl_module.losses).mean()),
            **pl_module.metrics,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "images_per_second": self.images / (self.trained - self.started),
            "seconds": now - self.started,
        }
        self.history.append(row)
        if best_epoch(self.history) == len(self.history) - 1:
            state = pl_module.average.net.state_dict()
            self.best = {key: value.detach().cpu().clone() for key, value in state.items()}
        log_epoch(row, self.cfg.epochs)
        trainer.should_stop |= finished(self.history, self.cfg.epochs, self.cfg.early_stop_patience)
        # Lightning writes into a temporary file and renames it: the file is whole or the last one
        trainer.save_checkpoint(self.checkpoint)
        if self.live is not None:
            self.live(int(row["epoch"]), curve(row))
