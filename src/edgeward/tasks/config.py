"""Keys that the tasks share in the config group ``train``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgeward.core.config import Closed

Fraction = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=8, le=512)]


class AnyLoss(Closed):
    """What is minimised; each task lists its losses as `LOSSES`, told apart by their names."""

    name: str


class PatchConfig(Closed):
    """How volumes are cut in training, and covered with windows in validation."""

    size: Annotated[
        tuple[Side, Side, Side],
        Field(description="(depth, height, width), voxels; the network is built for it"),
    ]
    per_case: Annotated[int, Field(ge=1, description="patches of each case an epoch")]
    foreground: Annotated[
        Fraction, Field(description="share of patches that hold a voxel of a class drawn evenly")
    ]
    overlap: Annotated[
        float, Field(ge=0, lt=1, description="share that neighbouring windows have in common")
    ]
    windows: Annotated[int, Field(ge=1, description="windows per forward pass in validation")]


class AugmentConfig(Closed):
    """Random changes of the training images, drawn for every image on its own."""

    flips: Annotated[bool, Field(description="mirror along each axis, half the time")]
    rotate90: Annotated[
        bool,
        Field(
            description="quarter turns in the plane of the last two axes; half turns if not square"
        ),
    ]
    degrees: Annotated[
        float, Field(ge=0, le=180, description="further rotation, +- degrees per axis")
    ]
    scale: Annotated[float, Field(ge=0, lt=1, description="zoom, +- share")]
    translate: Annotated[float, Field(ge=0, lt=1, description="shift, +- share of the side")]
    brightness: Annotated[float, Field(ge=0, lt=1, description="gain of all channels, +- share")]
    contrast: Annotated[float, Field(ge=0, lt=1, description="contrast, +- share")]
    colour: Annotated[float, Field(ge=0, lt=1, description="gain of each channel, +- share")]
