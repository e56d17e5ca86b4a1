"""Keys of the ``export`` group; the values are in ``config/export/``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgeward.core.config import Closed

Share = Annotated[float, Field(ge=0, le=1)]


class Fp32Tolerance(Closed):
    """How far onnxruntime's logits may lie from PyTorch's, both in fp32.

    Passed if ``max |error| <= absolute + to_spread * spread``; the spread is the standard deviation
    of the PyTorch logits over images and classes.
    """

    absolute: float = Field(ge=0, description="In logits.")
    to_spread: float = Field(ge=0, description="As a share of the logit spread.")


class Int8Tolerance(Closed):
    """How far onnxruntime's fused INT8 run may lie from the quantised PyTorch program.

    An INT8 net answers in steps, so an error is judged against what the same program does, in
    PyTorch alone, to images changed by less than their own resolution.
    """

    perturbation: float = Field(
        gt=0, le=1, description="Uniform +- change of the pixels, in grey levels of 0-255."
    )
    mean_to_spread: float = Field(
        ge=0, description="Mean |error| that always passes, as a share of the logit spread."
    )
    mean_to_sensitivity: float = Field(
        ge=0, description="Mean |error| allowed, as a multiple of that under the perturbation."
    )
    max_mean_to_spread: float = Field(
        gt=0, description="Mean |error| that never passes, as a share of the logit spread."
    )
    decided_margin: float = Field(
        gt=0, description="An image is decided if its top-2 margin exceeds so many times the limit."
    )
    decided_agreement: Share = Field(description="Least argmax agreement on decided images.")


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
