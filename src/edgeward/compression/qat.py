"""Quantization-aware training from the ranges that calibration found."""

from __future__ import annotations

import logging

import torch
from torch.fx import GraphModule
from torchao.quantization.pt2e import FakeQuantizeBase, ObserverBase

from edgeward.compression import backend
from edgeward.compression.int8 import Int8
from edgeward.compression.tuning import tune
from edgeward.compression.workpiece import Workpiece
from edgeward.training.config import FinetuneConfig

logger = logging.getLogger(__name__)


def train(
    piece: Workpiece,
    step: Int8,
    calibrated: GraphModule,
    finetune: FinetuneConfig,
    *,
    range_momentum: float,
    range_epochs: int,
) -> GraphModule:
    """Return a fake-quantized copy of the piece's module, fine-tuned.

    The single-branch module is trained, never the train form: its batch norms would stand between
    convolution and quantizer and end in the graph. Training starts at exactly the ranges of
    `calibrated`; they follow the activations for `range_epochs` and rest afterwards. The range of a
    weight is always that of the weight.
    """
    module = piece.module.requires_grad_(True)
    model = backend.prepare_qat(
        backend.capture(module, piece.example),
        momentum=range_momentum,
        reduce_range=step.reduce_range,
        granularity=step.weight_granularity,
        keep_float=step.keep_float,
    )
    take_ranges(model, calibrated)
    ranges = RangeSchedule(model, range_epochs)
    tune(
        piece,
        model,
        finetune,
        set_train=lambda _: ranges.train(),
        set_eval=lambda _: ranges.eval(),
        on_epoch_start=ranges.start_epoch,
    )
    ranges.eval()
    with torch.no_grad():
        # The weights moved after their range was last taken.
        model(piece.example)
    return model


def take_ranges(model: GraphModule, calibrated: GraphModule) -> None:
    """Set every fake quantizer of `model` to the range of the observer of the same name.

    Both graphs come from the same capture and placement, so the names match one to one.
    """
    observers = {n: m for n, m in calibrated.named_children() if isinstance(m, ObserverBase)}
    fakes = {n: m for n, m in model.named_children() if isinstance(m, FakeQuantizeBase)}
    if observers.keys() != fakes.keys():
        raise AssertionError(f"graphs differ in {sorted(observers.keys() ^ fakes.keys())}")
    for name, fake in fakes.items():
        scale, zero_point = observers[name].calculate_qparams()
        inner = fake.activation_post_process
        shape = () if fake.qscheme == torch.per_tensor_affine else scale.shape
        with torch.no_grad():
            inner.min_val.resize_(shape).copy_(((fake.quant_min - zero_point) * scale).view(shape))
            inner.max_val.resize_(shape).copy_(((fake.quant_max - zero_point) * scale).view(shape))
            fake.scale.resize_(scale.shape).copy_(scale)
            fake.zero_point.resize_(zero_point.shape).copy_(zero_point)


class RangeSchedule:
    """Lets the ranges of activations move in training, for the first epochs only."""

    def __init__(self, model: GraphModule, range_epochs: int) -> None:
        self.activations = [
            m
            for m in model.modules()
            if isinstance(m, FakeQuantizeBase) and m.qscheme == torch.per_tensor_affine
        ]
        self.range_epochs = range_epochs
        self.moving = range_epochs > 0

    def start_epoch(self, epoch: int) -> None:
        """Let ranges move or rest in this epoch, counted from 0."""
        self.moving = epoch < self.range_epochs
        self.train()

    def train(self) -> None:
        """Get ready for training steps."""
        self._observe(self.moving)

    def eval(self) -> None:
        """Get ready for evaluation: data that is looked at must not move ranges."""
        self._observe(False)

    def _observe(self, on: bool) -> None:
        for fake in self.activations:
            fake.enable_observer(on)
