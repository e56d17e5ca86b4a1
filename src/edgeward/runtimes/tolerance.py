"""When two runs of one network are the same: one rule for the exported file and for every device.

fp32 is simple: two engines differ by rounding, so the largest error has a limit.

INT8 is not. Engines round activations to 256 levels, and where one of them meets a value at the middle of a
level by a rounding error of 1e-7, they part by a whole level; a network can amplify that. How much is a
property of the network, so it is measured with one engine alone, on images changed by less than the rounding
of their own pixels (the sensitivity). The mean error has a limit that grows with it, and images that are
clearly decided must be decided alike. A network whose sensitivity is high is an alarm about the model.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from edgeward.core.config import Closed
from edgeward.statistics.decisions import decided, margin

ToSpread = Annotated[float, Field(ge=0, description="As a share of the logit spread.")]
ToSensitivity = Annotated[
    float,
    Field(
        ge=0,
        description="Above that, mean |error| may be at most so many times what the perturbation changes ..",
    ),
]
DecidedMargin = Annotated[
    float,
    Field(
        gt=0,
        description="An image counts as decided if its top-2 margin exceeds so many times the limit of the mean |error|; at 8 no "
        "rounding flips it.",
    ),
]
DecidedAgreement = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="Of the decided images (of segmentation: pixels or voxels) at least this share must be decided alike.",
    ),
]


class Fp32Tolerance(Closed):
    """How far the logits of a float run may lie from those of a reference.

    Passed if ``max |error| <= absolute + to_spread * spread``; the spread is the standard deviation of the
    reference's logits over images and classes.
    """

    absolute: float = Field(1e-4, ge=0, description="Largest |error|, in logits ..")
    to_spread: ToSpread = 1e-3

    def limit(self, spread: float) -> float:
        """Return the largest |error| allowed, in logits."""
        return self.absolute + self.to_spread * spread


class Int8Tolerance(Closed):
    """How far the logits of an INT8 run may lie from those of a reference.

    Measured with mobileone_s0, 64x64, PTQ, barely trained, the worst case: mean |error| 2.8 % of the spread and 0.14 of
    the sensitivity, agreement 99.0 %; with biases that the kernels round by themselves 16.7 %, 0.80 and 93.4 %, which
    must fail. A well trained network lies at 0.2-0.5 % of the spread.
    """

    perturbation: float = Field(
        0.5,
        gt=0,
        le=1,
        description="How much a network amplifies rounding is measured on images changed by +- this many grey levels; 0.5 is the "
        "rounding of the pixels themselves.",
    )
    mean_to_spread: float = Field(
        0.02,
        ge=0,
        description="A mean |error| up to this share of the logit spread passes in any case.",
    )
    mean_to_sensitivity: ToSensitivity = 0.5
    max_mean_to_spread: float = Field(
        0.10,
        gt=0,
        description=".. and never more than this share of the logit spread: then the two have too little in common.",
    )
    decided_margin: DecidedMargin = 8.0
    decided_agreement: DecidedAgreement = 0.99

    def limit(self, spread: float, sensitivity: float) -> float:
        """Return the largest mean |error| allowed, in logits.

        Parameters
        ----------
        spread : standard deviation of the reference's logits.
        sensitivity : mean change of the logits under the perturbation.
        """
        allowed = max(self.mean_to_spread * spread, self.mean_to_sensitivity * sensitivity)
        return min(self.max_mean_to_spread * spread, allowed)

    def decided(
        self, reference: np.ndarray, other: np.ndarray, limit: float, exclusive: bool = True
    ) -> tuple[int, float | None]:
        """Return how many images the reference clearly decides, and the share decided alike.

        Both are logits (n, n_classes, ..); of label maps every pixel or voxel counts as an image, and of labels that are
        decided each on its own every label of an image. The share is None where nothing is clear.
        """
        clear = margin(reference, exclusive) > self.decided_margin * limit
        alike = (decided(reference, exclusive) == decided(other, exclusive))[clear]
        return len(alike), float(alike.mean()) if len(alike) else None


class FileParityConfig(Closed):
    """The comparison of the exported file with the PyTorch program on validation images."""

    images: int = Field(
        256,
        ge=16,
        description="Validation images, evenly spread over the split; all if there are fewer.",
    )
    batch: int = Field(32, ge=1, description="Images at a time; bounds the memory.")
    dense_images: int = Field(
        16,
        ge=1,
        description="Instead of `images` for segmentation, where every image or patch holds thousands of decisions.",
    )
    dense_batch: int = Field(4, ge=1, description="Instead of `batch` for segmentation.")
    batch_sizes: list[Annotated[int, Field(ge=1)]] = Field(
        [1, 2, 7],
        min_length=2,
        description="The dynamic batch must really work: these sizes must run and agree with one another.",
    )
    fp32: Fp32Tolerance = Fp32Tolerance()
    int8: Int8Tolerance = Int8Tolerance()


class DeviceFp32Tolerance(Fp32Tolerance):
    """How far the logits of a float model may lie from those of the reference engine."""

    to_spread: ToSpread = 3e-4


class DeviceInt8Tolerance(Int8Tolerance):
    """How far the logits of an INT8 model may lie from those of the reference engine: engines round apart."""

    mean_to_sensitivity: ToSensitivity = 1.0
    decided_margin: DecidedMargin = 6.0
    decided_agreement: DecidedAgreement = 0.999


class DeviceParityConfig(Closed):
    """Whether the engine on the device computes what the reference engine computes here (one thread, no optimisation);
    asked before any time is believed."""

    images: int = Field(8, ge=2, le=64, description="Seeded synthetic images.")
    fp32: DeviceFp32Tolerance = DeviceFp32Tolerance()
    int8: DeviceInt8Tolerance = DeviceInt8Tolerance()
