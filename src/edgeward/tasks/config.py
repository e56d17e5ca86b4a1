"""Keys that the tasks share in the config groups ``train`` and ``safety``."""

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

    size: tuple[Side, Side, Side] = Field(
        (32, 32, 32),
        description="(depth, height, width), voxels. The network is built for it and sees no further: as large as memory allows, "
        "and divisible by what the network reduces the resolution by (8 or 16 as a rule).",
    )
    per_case: int = Field(
        1,
        ge=1,
        description="Patches of each case an epoch; more for volumes that are many patches large.",
    )
    foreground: Fraction = Field(
        0.67,
        description="Share of patches that hold a voxel of a class, drawn first among the classes that are there, so that small "
        "lesions are found; the others lie anywhere.",
    )
    overlap: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="Share that neighbouring windows have in common in validation; 0.5 is usual, less is faster.",
    )
    windows: int = Field(
        4, ge=1, description="Windows per forward pass in validation; bounds the memory."
    )


class AugmentConfig(Closed):
    """Random changes of the training images, drawn for every image on its own."""

    flips: bool = Field(
        True,
        description="Mirror along each axis, half the time; off where left and right differ (chest X-ray, or labels that say which).",
    )
    rotate90: bool = Field(
        True,
        description="Quarter turns in the plane of the last two axes (half turns if not square); off where images have an upright.",
    )
    degrees: float = Field(
        15.0, ge=0, le=180, description="Further rotation, +- degrees, in volumes about each axis."
    )
    scale: float = Field(0.1, ge=0, lt=1, description="Zoom, +- share.")
    translate: float = Field(0.05, ge=0, lt=1, description="Shift, +- share of the side.")
    brightness: float = Field(0.1, ge=0, lt=1, description="Gain of all channels, +- share.")
    contrast: float = Field(
        0.1, ge=0, lt=1, description="Contrast about the image's mean, +- share."
    )
    colour: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Gain of each channel on its own, +- share: white balance. 0 for grey images.",
    )


class Operating(Closed):
    """Points of the ROC curve at which classes are compared, one against the rest; their thresholds are fixed on validation."""

    specificity: float = Field(
        0.9, gt=0, lt=1, description="At which sensitivity is measured, as for a screening test."
    )
    sensitivity: float = Field(
        0.9,
        gt=0,
        lt=1,
        description="At which specificity is measured, as for ruling a finding out.",
    )
