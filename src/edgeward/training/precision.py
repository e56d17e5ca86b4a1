"""Choose between float32 and bfloat16 by measuring both."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from edgeward.core.io import read_json, write_json
from edgeward.tasks.training import Batch, TrainingTask
from edgeward.training.config import TrainConfig
from edgeward.training.optim import adamw
from edgeward.training.small_maps import SmallMaps

logger = logging.getLogger(__name__)

STEPS = 3
NEEDED_GAIN = 1.15  # bfloat16 must be clearly faster, or noise would choose


def choose_precision(
    model: nn.Module,
    cfg: TrainConfig,
    task: TrainingTask,
    batch: Batch,
    device: torch.device,
    memory: Path,
) -> str:
    """Return "fp32" or "bf16": as configured, or the faster of a few training steps of each.

    Parameters
    ----------
    model : not changed; a copy is trained.
    batch : images float32 (b, c, *spatial) and labels or masks, as training will see them.
    memory : JSON file that keeps the choice, so that a resumed or repeated run computes the same.
    """
    if cfg.precision != "auto":
        return cfg.precision
    if memory.is_file():
        return read_json(memory)["precision"]
    seconds = {
        "fp32": _step_seconds(_step(model, cfg, task, batch, device, bf16=False)),
        "bf16": _step_seconds(_step(model, cfg, task, batch, device, bf16=True)),
    }
    choice = "bf16" if seconds["bf16"] * NEEDED_GAIN < seconds["fp32"] else "fp32"
    write_json(memory, {"precision": choice, "seconds_per_step": seconds})
    logger.info(
        "precision %s: a step takes %.3f s in fp32, %.3f s in bf16",
        choice,
        seconds["fp32"],
        seconds["bf16"],
    )
    return choice


def _step(
    model: nn.Module,
    cfg: TrainConfig,
    task: TrainingTask,
    batch: Batch,
    device: torch.device,
    *,
    bf16: bool,
) -> Callable[[], None]:
    copy = deepcopy(model).to(device).train()
    optimizer = adamw(copy, cfg)
    images, labels = (part.to(device) for part in batch)

    def step() -> None:
        with SmallMaps(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            value = task.loss(copy, images, labels)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def _step_seconds(step: Callable[[], None]) -> float:
    """Return the shortest of a few steps after a warm-up, in seconds."""
    step()
    times = []
    for _ in range(STEPS):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return min(times)
