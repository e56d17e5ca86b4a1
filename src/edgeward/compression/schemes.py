"""What is put on a tensor: observers for PTQ, fake quantization for QAT, of one number format."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torchao.quantization.pt2e import (
    FakeQuantize,
    FusedMovingAvgObsFakeQuantize,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
)
from torchao.quantization.pt2e.quantizer import QuantizationSpec

Observer = Literal["minmax", "mean", "histogram"]
OBSERVERS: tuple[Observer, ...] = get_args(Observer)
Granularity = Literal["per_channel", "per_tensor"]

# Smallest scale of an activation: keeps a constant channel from a scale of 1e-7, whose bias would
# overflow int32.
ACTIVATION_EPS = 2.0**-12


def weight_range(reduce_range: bool) -> tuple[int, int]:
    """Return the smallest and largest integer of a weight.

    -127..127, or -64..64 with `reduce_range`: on x86 without VNNI the product sum of two pairs
    u8 x s8 is held in 16 bits, and saturates if weights use all 8 bits
    (onnxruntime, "Quantize ONNX models", section on U8S8 on AVX2 and AVX512).
    """
    return (-64, 64) if reduce_range else (-127, 127)


class _OneRange:
    """Gives all channels of a weight the range of the whole: per tensor, in per-channel form.

    So everything behind it (bias scales, kernels, counts) is the same for both granularities, and a
    difference between them is one of rounding only.
    """

    min_val: torch.Tensor
    max_val: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen: torch.Tensor = super().forward(x)  # type: ignore[misc]
        self.min_val.fill_(self.min_val.min())
        self.max_val.fill_(self.max_val.max())
        return seen


class OneRangeMinMaxObserver(_OneRange, PerChannelMinMaxObserver):
    """For PTQ."""


class OneRangeMovingObserver(_OneRange, MovingAveragePerChannelMinMaxObserver):
    """For QAT."""


class MeanMinMaxObserver(MinMaxObserver):
    """The mean over all images of the smallest and of the largest value of each.

    A range that covers all that was seen is set by one image, and by one channel of it; where most values are small, its steps are as
    large as they are (docs/experiments/ptq.md). Where every image has a few values that count, this cuts them.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.images = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take note of x (images, ...), and return it."""
        if x.numel() == 0:
            return x
        rows = x.detach().to(self.min_val.dtype).reshape(len(x), -1) if x.dim() else x.reshape(1, 1)
        self.images += len(rows)
        for extreme, seen in ((self.min_val, rows.amin(1)), (self.max_val, rows.amax(1))):
            old = extreme if self.images > len(rows) else torch.zeros_like(seen[0])
            extreme.resize_(()).copy_(old + (seen - old).sum() / self.images)
        return x


def ptq_specs(
    observer: Observer, reduce_range: bool, granularity: Granularity = "per_channel"
) -> tuple[QuantizationSpec, QuantizationSpec]:
    """Return the specs (activation, weight) that observe."""
    kind = {
        "mean": MeanMinMaxObserver,
        "minmax": MinMaxObserver,
        "histogram": HistogramObserver,
    }[observer]
    return (
        _activation(kind.with_args(eps=ACTIVATION_EPS)),
        _weight(
            PerChannelMinMaxObserver if granularity == "per_channel" else OneRangeMinMaxObserver,
            reduce_range,
        ),
    )


def qat_specs(
    momentum: float, reduce_range: bool, granularity: Granularity = "per_channel"
) -> tuple[QuantizationSpec, QuantizationSpec]:
    """Return the specs (activation, weight) that quantize in the forward pass and pass gradients.

    Parameters
    ----------
    momentum : share of the newest batch in the running range of an activation. A weight's range
        is always that of the weight itself.
    """
    activation = FusedMovingAvgObsFakeQuantize.with_args(
        observer=MovingAverageMinMaxObserver, averaging_constant=momentum, eps=ACTIVATION_EPS
    )
    if granularity == "per_channel":
        weight = FusedMovingAvgObsFakeQuantize.with_args(
            observer=MovingAveragePerChannelMinMaxObserver, averaging_constant=1.0
        )
    else:  # the fused kernel takes the range of each channel itself
        weight = FakeQuantize.with_args(observer=OneRangeMovingObserver, averaging_constant=1.0)
    return _activation(activation), _weight(weight, reduce_range)


def _activation(constructor: object) -> QuantizationSpec:
    return QuantizationSpec(
        dtype=torch.uint8,
        quant_min=0,
        quant_max=255,
        qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=constructor,
    )


def _weight(constructor: object, reduce_range: bool) -> QuantizationSpec:
    low, high = weight_range(reduce_range)
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=low,
        quant_max=high,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=constructor,
    )
