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


class Fp32Tolerance(Closed):
    """How far the logits of a float run may lie from those of a reference.

    Passed if ``max |error| <= absolute + to_spread * spread``; the spread is the standard deviation of the
    reference's logits over images and classes.
    """

    absolute: float = Field(ge=0, description="In logits.")
    to_spread: float = Field(ge=0, description="As a share of the logit spread.")

    def limit(self, spread: float) -> float:
        """Return the largest |error| allowed, in logits."""
        return self.absolute + self.to_spread * spread


class Int8Tolerance(Closed):
    """How far the logits of an INT8 run may lie from those of a reference."""

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
    decided_agreement: Annotated[float, Field(ge=0, le=1)] = Field(
        description="Least argmax agreement on decided images."
    )

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
        self, reference: np.ndarray, other: np.ndarray, limit: float
    ) -> tuple[int, float | None]:
        """Return how many images the reference clearly decides, and the share decided alike.

        Both are logits (n, n_classes, ..); of label maps every pixel or voxel counts as an image. The
        share is None where nothing is clear.
        """
        clear = margin(reference) > self.decided_margin * limit
        alike = (reference.argmax(1) == other.argmax(1))[clear]
        return len(alike), float(alike.mean()) if len(alike) else None


class FileParityConfig(Closed):
    """The comparison of the exported file with the PyTorch program on validation images."""

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


class DeviceParityConfig(Closed):
    """Whether the engine on the device computes what the reference engine computes here."""

    images: int = Field(ge=2, le=64, description="Seeded synthetic images.")
    fp32: Fp32Tolerance
    int8: Int8Tolerance


def margin(logits: np.ndarray) -> np.ndarray:
    """Return the distance of the highest logit to the second highest, or of a single one to 0, (n, ..)."""
    top = np.sort(logits, axis=1)
    return top[:, -1] - top[:, -2] if logits.shape[1] > 1 else np.abs(top[:, -1])
