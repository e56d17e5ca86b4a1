"""Keys of the ``scaling`` group; the values are in ``config/scaling/``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeward.core.config import Closed


class ScalingConfig(Closed):
    """How the untrained networks of a sweep's `sizes` are built."""

    seed: int = Field(ge=0, description="Of the random weights and images.")
    classes: int = Field(ge=1, description="Classes; segmentation has the background besides.")
    channels: int = Field(ge=1, description="Channels of the images.")
    spatial_dims: Literal[2, 3] = Field(description="2: square images. 3: cubes.")
    images: int = Field(ge=16, description="Random images on which the export is checked.")
    batch: int = Field(ge=2, description="Images at a time; bounds the memory.")
