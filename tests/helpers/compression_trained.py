"""A tiny trained network with its data, and recipes of the config tree made to fit it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shipped import shipped
from small_data import meta, write_small_prepared

from edgeward.compression.config import RecipeConfig
from edgeward.compression.stage import run as compress
from edgeward.core.io import read_json
from edgeward.data.store import Prepared, open_prepared, to_input
from edgeward.models.checkpoint import save_checkpoint
from edgeward.models.config import ModelConfig
from edgeward.models.deploy import Deployable
from edgeward.models.factory import build
from edgeward.models.program import load_program

TRAIN: dict[str, Any] = {
    "loss": {
        "name": "cross_entropy",
        "tau": 1.0,
        "beta": 0.99,
        "gamma": 2.0,
        "label_smoothing": 0.0,
    },
    "augment": {
        "flips": True,
        "rotate90": False,
        "degrees": 0.0,
        "scale": 0.0,
        "translate": 0.0,
        "brightness": 0.0,
        "contrast": 0.0,
        "colour": 0.0,
    },
    "batch_size": 32,
    "lr": 3e-3,
}


def recipe(name: str, **changes: Any) -> RecipeConfig:
    """Return a recipe of the config tree for the tiny network; `changes` are of its second step."""
    content = shipped("compress", name)
    for step in content["steps"]:
        if "finetune" in step:
            step["finetune"] |= TRAIN
        if "round_to" in step:
            step["round_to"] = 2
    if changes:
        content["steps"][1] |= changes
    return RecipeConfig.model_validate(content)


@dataclass
class Trained:
    """A student and a teacher that have learnt the small data set."""

    root: Path
    data: Prepared
    student: Path
    teacher: Path

    def compress(self, chosen: RecipeConfig, tag: str, **kwargs: Any) -> dict[str, float]:
        """Run the stage into the folder `tag`."""
        return compress(
            chosen,
            seed=0,
            checkpoint=self.student,
            prepared=self.data.root,
            out=self.root / tag,
            work=self.root / tag / "work",
            threads=1,
            **{"teachers": {"resnet18": self.teacher}, **kwargs},
        )

    def record(self, tag: str) -> dict[str, Any]:
        content: dict[str, Any] = read_json(self.root / tag / "recipe.json")
        return content

    def images(self) -> torch.Tensor:
        held_out = np.flatnonzero(self.data.splits != "train")
        return torch.from_numpy(to_input(self.data.images[held_out]))

    def accuracy(self, tag: str) -> float:
        with torch.no_grad():
            logits = load_program(self.root / tag / "model.pt2").module()(self.images())
        labels = self.data.labels[self.data.splits != "train"]
        return float((logits.argmax(1).numpy() == labels).mean())


def train(root: Path) -> Trained:
    """Train two DS-CNNs for some steps, one wider than the other."""
    data = open_prepared(write_small_prepared(root / "prepared", n=400))
    paths = [_train(root / f"{name}.pt", data, width) for name, width in WIDTHS.items()]
    return Trained(root, data, *paths)


WIDTHS = {"student": 16, "teacher": 32}


def _train(path: Path, data: Prepared, width: int) -> Path:
    config = ModelConfig(
        name="dscnn",
        builder="edgeward",
        architecture="dscnn",
        dense=False,
        family="cnn",
        drop_rate=0.0,
        branch_gain=1.0,
        options={"width": width, "blocks": 2},
    )
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = build(config, num_classes=3, in_chans=3, image_size=(32, 32))
    card = data.card
    model = Deployable(net, card.channel_mean, card.channel_std)
    train = data.indices("train")
    images = torch.from_numpy(to_input(data.images[train]))
    labels = torch.from_numpy(data.labels[train])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(40):
        batch = torch.randperm(len(train), generator=torch.Generator().manual_seed(step))[:64]
        loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    facts = meta(model=config.model_dump(mode="json"), mean=card.channel_mean, std=card.channel_std)
    save_checkpoint(path, model, facts)
    return path
