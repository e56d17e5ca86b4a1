"""Keys of the ``export`` group; the values are in ``config/export/``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgeward.core.config import Closed
from edgeward.runtimes.tolerance import Int8Tolerance

Share = Annotated[float, Field(ge=0, le=1)]


class Fp32Tolerance(Closed):
    """How far onnxruntime's logits may lie from PyTorch's, both in fp32.

    Passed if ``max |error| <= absolute + to_spread * spread``; the spread is the standard deviation
    of the PyTorch logits over images and classes.
    """

    absolute: float = Field(ge=0, description="In logits.")
    to_spread: float = Field(ge=0, description="As a share of the logit spread.")


class ParityConfig(Closed):
    """The comparison of ``model.onnx`` with the PyTorch program on validation images."""

    images: int = Field(ge=16, description="Validation images, evenly spread over the split.")
    batch: int = Field(ge=1, description="Images at a time; bounds the memory.")
    dense_images: int = Field(
        ge=1, description="Instead of `images` for segmentation, whose images hold many decisions."
    )
    dense_batch: int = Field(ge=1, description="Instead of `batch` for segmentation.")
    batch_sizes: list[Annotated[int, Field(ge=1)]] = Field(
        min_length=2, description="Batch sizes that must run and agree with one another."
    )
    fp32: Fp32Tolerance
    int8: Int8Tolerance


class RecurrenceConfig(Closed):
    """How the recurrence of a state-space model is written."""

    gated: Literal["linear_attention", "opset27", "matmul", "scan"] = Field(
        description="Form of SSD (Mamba-2) recurrences."
    )


class ExportConfig(Closed):
    """What the stage ``export`` reads."""

    opset: int = Field(ge=20, le=24, description="ONNX operator set; from 20 on GELU is one node.")
    recurrence: RecurrenceConfig
    parity: ParityConfig
