"""A model on its way through a recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from edgeward.data.store import Prepared, open_prepared


@dataclass
class Candidate:
    """What the steps of a recipe read and change.

    Attributes
    ----------
    module : the model in eval mode, from images (b, c, *spatial), 0-255, to logits.
    meta : as in ``model.pt``.
    program : what ships, once a final step has made it.
    record : goes to ``recipe.json``.
    metrics : goes to ``metrics.json``.
    """

    module: nn.Module
    meta: dict[str, Any]
    prepared: Path
    seed: int
    threads: int
    work: Path
    live: Callable[[int, dict[str, float]], None] | None
    program: ExportedProgram | None = None
    record: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    @cached_property
    def data(self) -> Prepared:
        """The prepared data, opened when first needed."""
        return open_prepared(self.prepared)

    @property
    def example(self) -> torch.Tensor:
        """A grey batch of two in the model's shape, float32, for tracing."""
        return torch.full((2, self.meta["in_chans"], *self.meta["image_size"]), 128.0)

    @property
    def parameters(self) -> int:
        """Number of parameters of the module as it stands."""
        return sum(parameter.numel() for parameter in self.module.parameters())
