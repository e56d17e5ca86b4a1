"""A model on its way through a recipe."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from edgeward.data.store import Prepared, open_prepared
from edgeward.records.recipe import ModelMeta
from edgeward.runtimes.base import Bench
from edgeward.tasks.base import task
from edgeward.tasks.inputs import Read, reader


@dataclass
class Workpiece:
    """What the steps of a recipe read and change.

    Attributes
    ----------
    module : the model in eval mode, from images (b, c, *spatial), 0-255, to logits.
    meta : as in ``model.pt``.
    program : what ships, once a final step has made it.
    teachers : name of a model -> its ``model.pt``, for the recipes that name one.
    bench : the device that the recipe names, if it names one.
    masks : name of a weight -> bool, where False marks a zero that later steps have to keep.
    effect : what the step at work did, for the record; the stage takes it after every step.
    record, found : go to ``recipe.json``: fields of `Recipe`, and what else steps have to say.
    metrics : goes to ``metrics.json``.
    original : a copy of the module as it came.
    """

    module: nn.Module
    meta: ModelMeta
    prepared: Path
    seed: int
    threads: int
    work: Path
    live: Callable[[int, dict[str, float]], None] | None
    program: ExportedProgram | None = None
    teachers: dict[str, Path] = field(default_factory=dict)
    bench: Bench | None = None
    masks: dict[str, torch.Tensor] = field(default_factory=dict)
    effect: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    original: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self.original = copy.deepcopy(self.module).eval().requires_grad_(False)

    @cached_property
    def uncompressed(self) -> nn.Module:
        """The trained network as it came, in single-branch form, for comparison; never changed."""
        from edgeward.models.deploy import reparameterize

        return reparameterize(self.original).requires_grad_(False)

    @cached_property
    def data(self) -> Prepared:
        """The prepared data, opened when first needed."""
        return open_prepared(self.prepared)

    @property
    def read(self) -> Read:
        """From case indices to inputs of the model: whole images, or one patch of each volume."""
        return reader(self.data, self.meta, self.seed)

    @property
    def exclusive(self) -> bool:
        """Whether one label is decided for; see `edgeward.tasks.base.Task`."""
        return task(self.meta.task, "model.pt").exclusive

    @property
    def thresholds(self) -> np.ndarray:
        """The logits above which labels are called that are each decided on its own, float64 (c,)."""
        return np.asarray(self.meta.thresholds or np.zeros(self.meta.n_labels), dtype=np.float64)

    @property
    def example(self) -> torch.Tensor:
        """A grey batch of two in the model's shape, float32, for tracing."""
        return torch.full((2, self.meta.in_chans, *self.meta.image_size), 128.0)

    @property
    def parameters(self) -> int:
        """Number of parameters of the module as it stands."""
        return sum(parameter.numel() for parameter in self.module.parameters())
