"""AdamW, its schedule, and the moving average of the weights."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edgeward.training.config import LearningConfig

BACKBONE = "backbone"  # name of the groups of parameters that come from weights


@dataclass(frozen=True)
class Backbone:
    """How the layers that come from weights learn beside the others.

    Attributes
    ----------
    head : names of the parameters that are none of them.
    lr : their rate, as a share of the others'. frozen_steps : first steps in which they stand still.
    """

    head: frozenset[str]
    lr: float = 1.0
    frozen_steps: int = 0


def adamw(
    model: nn.Module, cfg: LearningConfig, backbone: Backbone | None = None
) -> torch.optim.AdamW:
    """Return AdamW over the trainable parameters; vectors and scalars are not decayed.

    The fused kernel: the same arithmetic in one pass over the weights, 2 to 8 times as fast on CPU.

    Parameters
    ----------
    backbone : of a network that starts from weights; None: all layers learn alike.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    parts = [("", trainable, 1.0)]
    if backbone is not None:
        head = {n: p for n, p in trainable.items() if n in backbone.head}
        rest = {n: p for n, p in trainable.items() if n not in backbone.head}
        parts = [("", head, 1.0), (BACKBONE, rest, backbone.lr)]
    groups: list[dict[str, Any]] = []
    for name, mine, share in parts:
        many = [p for p in mine.values() if p.ndim > 1]
        few = [p for p in mine.values() if p.ndim <= 1]
        for params, decay in ((many, cfg.weight_decay), (few, 0.0)):
            if params:
                groups.append(
                    {"params": params, "weight_decay": decay, "lr": cfg.lr * share, "part": name}
                )
    return torch.optim.AdamW(groups, lr=cfg.lr, fused=True)


def cosine(
    optimizer: torch.optim.Optimizer,
    total_steps: int,
    warmup_fraction: float,
    frozen_steps: int = 0,
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a schedule by step: linear warm-up to the peak, then a half cosine to zero.

    Parameters
    ----------
    frozen_steps : first steps in which the groups of the backbone have the rate zero.
    """
    warmup = round(total_steps * warmup_fraction)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = (step - warmup) / max(1, total_steps - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def later(step: int) -> float:
        return 0.0 if step < frozen_steps else factor(step)

    parts = [group.get("part") == BACKBONE for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.LambdaLR(optimizer, [later if b else factor for b in parts])


class Average(nn.Module):
    """Exponential moving average of a network's weights and buffers.

    The decay of update t is ``min(decay, (1 + t) / (10 + t))``, so that the first weights, which are
    random, fade quickly. Integer buffers are copied.
    """

    updates: torch.Tensor

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.net = deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards `model`."""
        self.updates += 1
        t = int(self.updates)
        weight = 1 - min(self.decay, (1 + t) / (10 + t))
        mine, theirs = [], []
        for own, new in zip(
            self.net.state_dict().values(), model.state_dict().values(), strict=True
        ):
            if own.is_floating_point():
                mine.append(own)
                theirs.append(new)
            else:
                own.copy_(new)
        torch._foreach_lerp_(mine, theirs, weight)

    def train(self, mode: bool = True) -> Average:
        """Stay in eval mode: the average is for evaluation only."""
        del mode
        return super().train(False)
