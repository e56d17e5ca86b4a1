"""The ``scaling`` config group."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeward.core.config import Closed


class ScalingConfig(Closed):
    """How the untrained networks of a sweep's `sizes` are built."""

    seed: int = Field(0, ge=0, description="Seed of the random weights and of the random images.")
    classes: int = Field(
        7,
        ge=1,
        description="Classes of the data you have in mind (segmentation has the background besides); hardly shows in the latency.",
    )
    channels: int = Field(3, ge=1, description="Channels of the images: 3 for colour, 1 for grey.")
    spatial_dims: Literal[2, 3] = Field(
        2,
        description="2: square images of the sweep's `sizes`. 3: cubes of these sides, for networks of volumes.",
    )
    images: int = Field(
        16, ge=16, description="Random images on which the exported file is compared with PyTorch."
    )
    batch: int = Field(4, ge=2, description="Images at a time; bounds the memory at large sizes.")
