"""Images a second of this project's training beside plain loops: ``python benchmarks/training_speed.py [models ..]``.

One thread, float32, drawn lesions at 64x64, in turns in one process:

- ours: the stage `train`, one epoch without its validation: reading, augmentation, loss, clipping, AdamW, moving average;
- plain: batches in memory as float32, cross entropy, ``torch.optim.AdamW`` as it comes; no augmentation, clipping or average;
- tuned: the same with channels last and the fused AdamW; with ``--compile`` also through ``torch.compile``.

Prints the median of each and the median ratio of ours to each, with the smallest and largest of the turns. What ours does more is not taken off.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeward.data import stage as prepare
from edgeward.data.config import DataConfig
from edgeward.data.store import Prepared, open_prepared
from edgeward.models.config import ModelConfig
from edgeward.models.factory import build
from edgeward.pipeline.compose import compose
from edgeward.pipeline.home import PROJECT
from edgeward.training import stage
from edgeward.training.config import TrainConfig

ROOTS = (PROJECT / "config",)
SIZE = "{kind: phantom, n_train: %d, n_val: 70, n_test: 70, views: [1]}"


def shipped(group: str, name: str, *overrides: str) -> dict[str, Any]:
    """Return the values of a file of ``config/``."""
    values: dict[str, Any] = compose(ROOTS, {}, (f"{group}={name}", *overrides))[group]
    return values


def ours(model: ModelConfig, train: TrainConfig, data: Prepared, folder: Path) -> float:
    """Return images a second of one epoch of the stage."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        at = Path(name)
        found = stage.run(model, train, seed=0, prepared=data.root, out=at, work=at, threads=1)
    return found["images_per_second"]


class Loop:
    """A plain training loop over batches in memory."""

    def __init__(self, net: nn.Module, data: Prepared, train: TrainConfig, *, tuned: bool) -> None:
        layout = torch.channels_last if tuned else torch.contiguous_format
        self.net = net.to(memory_format=layout).train()  # type: ignore[call-overload]
        self.called = self.net
        rates: dict[str, Any] = {"lr": train.lr, "weight_decay": train.weight_decay}
        self.optimizer = torch.optim.AdamW(self.net.parameters(), **rates, fused=tuned)
        chosen = data.indices("train")
        images = np.asarray(data.images[chosen], dtype=np.float32)
        images = (images - images.mean((0, 1, 2))) / images.std((0, 1, 2))
        cases = torch.from_numpy(images).movedim(-1, 1)
        labels = torch.from_numpy(data.labels[chosen]).long()
        size = train.batch_size
        self.batches = [
            (
                cases[i : i + size].contiguous(memory_format=layout),
                labels[i : i + size],
            )
            for i in range(0, len(labels) - size + 1, size)
        ]

    def epoch(self) -> float:
        """Return images a second of one pass."""
        began = time.perf_counter()
        for images, labels in self.batches:
            loss = nn.functional.cross_entropy(self.called(images), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return sum(len(labels) for _, labels in self.batches) / (time.perf_counter() - began)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = ["mobilenetv3_small", "mobileone_s0", "efficientformerv2_s0", "ssd_xs"]
    parser.add_argument("models", nargs="*", default=default)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--images", type=int, default=768)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train = TrainConfig.model_validate(
        shipped("train", "default", "train.epochs=1", "train.precision=fp32")
    )
    print("| network | ours, images/s | plain | tuned | ours / plain | ours / tuned |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values = shipped("data", "phantom", f"data.source={SIZE % options.images}")
        prepare.run(DataConfig.model_validate(values), out=folder, data_root=None)
        data = open_prepared(folder)
        for chosen in options.models:
            model = ModelConfig.model_validate(shipped("model", chosen))
            loops = []
            for tuned in (False, True):
                torch.manual_seed(0)
                size = {"num_classes": len(data.classes), "in_chans": 3, "image_size": (64, 64)}
                loops.append(Loop(build(model, **size), data, train, tuned=tuned))  # type: ignore[arg-type]
            if options.compile:
                loops[1].called = torch.compile(loops[1].net)  # type: ignore[assignment]
            turns = []
            for turn in range(options.turns + 1):
                speeds = (
                    ours(model, train, data, folder),
                    *(loop.epoch() for loop in loops),
                )
                if turn:  # the first one warms up
                    turns.append(speeds)
            mine, plain, tuned_ = (median(side) for side in zip(*turns, strict=True))
            ratios = [[turn[0] / turn[i] for turn in turns] for i in (1, 2)]
            cells = [f"{median(r):.2f} [{min(r):.2f}, {max(r):.2f}]" for r in ratios]
            print(
                f"| {chosen} | {mine:.0f} | {plain:.0f} | {tuned_:.0f} | {cells[0]} | {cells[1]} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
