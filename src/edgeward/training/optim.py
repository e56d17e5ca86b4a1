"""AdamW, its schedule, and the moving average of the weights."""

from __future__ import annotations

import math
from copy import deepcopy

import torch
from torch import nn

from edgeward.training.config import LearningConfig


def adamw(model: nn.Module, cfg: LearningConfig) -> torch.optim.AdamW:
    """Return AdamW over the trainable parameters; vectors and scalars are not decayed.

    The fused kernel: the same arithmetic in one pass over the weights, 2 to 8 times as fast on CPU.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": cfg.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=cfg.lr, fused=True)


def cosine(
    optimizer: torch.optim.Optimizer, total_steps: int, warmup_fraction: float
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a schedule by step: linear warm-up to the peak, then a half cosine to zero."""
    warmup = round(total_steps * warmup_fraction)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = (step - warmup) / max(1, total_steps - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


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
