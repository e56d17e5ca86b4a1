"""Quantization-aware training from the ranges that calibration found."""

from __future__ import annotations

import logging

import torch
from torch.fx import GraphModule

from edgeward.compression import backend
from edgeward.compression.int8 import Int8
from edgeward.compression.ranges import RangeSchedule, take_ranges
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
        reduce_range=step.reduced,
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
