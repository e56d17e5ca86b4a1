"""Keys of the task of one label per pixel or voxel: ``safety.segmentation`` and its loss."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgeward.core.config import Closed
from edgeward.tasks.config import AnyLoss


class Margins(Closed):
    """Largest loss that still counts as "as good as the reference", per endpoint, in its own unit."""

    dice: float = Field(gt=0, lt=1, description="Mean over the classes of Dice per image.")
    dice_per_class: float = Field(gt=0, lt=1, description="Dice per image of each class.")
    small_lesion_sensitivity: float = Field(gt=0, lt=1, description="Share of small lesions found.")
    ece: float = Field(
        gt=0, lt=1, description="Root mean square calibration error of all pixels, debiased."
    )
    boundary_ece: float = Field(gt=0, lt=1, description="The same near boundaries.")


class Evidence(Closed):
    """Below these an endpoint is never passed, whatever its interval says."""

    reference_dice: float = Field(
        ge=0, lt=1, description="A class whose reference Dice is surely below has nothing to lose."
    )
    groups: int = Field(ge=2, description="Test groups, in all and with each class.")


class Safety(Closed):
    """What ``assess`` measures and asks of label maps; lengths in mm for volumes, in pixels for images."""

    tolerance: float = Field(gt=0, description="Surface Dice: distance that still counts as met.")
    boundary: float = Field(gt=0, description="Half width of the band of the boundary ECE.")
    small_lesion: float | None = Field(
        gt=0,
        description="Largest small lesion, mm3 or square pixels; null: no endpoint for small lesions.",
    )
    detected_share: float = Field(
        gt=0, le=1, description="Share of a lesion's voxels that must be labelled to find it."
    )
    margins: Margins
    evidence: Evidence


class DiceLossConfig(AnyLoss):
    """What segmentation minimises: ``dice_weight (1 - Dice) + cross_entropy_weight CE``."""

    name: Literal["dice_cross_entropy"]
    dice_weight: Annotated[float, Field(ge=0, description="of 1 - Dice of the foreground")]
    cross_entropy_weight: Annotated[
        float, Field(gt=0, description="of the mean over all pixels or voxels")
    ]
    dice_sums: Annotated[
        Literal["image", "batch"], Field(description="what Dice is summed over before dividing")
    ]
    deep_supervision: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="weight of each output relative to the finer one; 0: finest only",
        ),
    ]


LOSSES = (DiceLossConfig,)
