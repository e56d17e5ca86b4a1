"""Ranges of fake quantizers: taken from a calibration, and moving for some epochs of training."""

from __future__ import annotations

import torch
from torch.fx import GraphModule
from torchao.quantization.pt2e import FakeQuantizeBase, ObserverBase


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
