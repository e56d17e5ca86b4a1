"""Keys of the task of one label per pixel or voxel: ``safety.segmentation`` and its loss."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeward.core.config import Closed
from edgeward.tasks.config import AnyLoss


class Margins(Closed):
    """Non-inferiority margins: fix them before looking at results, by what a loss means for a patient, not by what the data can
    show."""

    dice: float = Field(
        0.02,
        gt=0,
        lt=1,
        description="Dice per image, averaged over the classes. Two experts differ by 0.05 to 0.15 on most organs and lesions.",
    )
    dice_per_class: float = Field(0.03, gt=0, lt=1, description="Dice per image of each class.")
    small_lesion_sensitivity: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Share of the small lesions that is found: 0.05 = at most 5 more missed in 100.",
    )
    ece: float = Field(
        0.02,
        gt=0,
        lt=1,
        description="Calibration error (root mean square, debiased) over all pixels or voxels. Most are easy background, so it is "
        "small.",
    )
    boundary_ece: float = Field(0.05, gt=0, lt=1, description="The same within the boundary band.")


class Evidence(Closed):
    """What a pass needs besides its interval."""

    reference_dice: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="If the reference's Dice of a class is below this for sure, there is nothing to lose.",
    )
    groups: int = Field(
        30,
        ge=2,
        description="Independent groups (patients) in the test split, in all and with each class. 30 suffice for losses that are "
        "spread over the cases; 100 where single failures matter, which few cases do not show (docs/statistics.md).",
    )


class Safety(Closed):
    """What ``assess`` measures and asks of label maps. Lengths are in mm for volumes and in pixels for images in the plane, so look
    at them again for every data set."""

    tolerance: float = Field(
        2.0,
        gt=0,
        description="Surface Dice: two surfaces agree where they are at most this far apart. The disagreement of two experts is a "
        "good choice.",
    )
    boundary: float = Field(
        2.0,
        gt=0,
        description="The boundary ECE looks at what lies at most this far from a boundary: elsewhere nearly every model is sure and "
        "right.",
    )
    small_lesion: float | None = Field(
        100.0,
        gt=0,
        description="Lesions (connected parts of a class) of at most this size are small: the rare finding of segmentation. In mm3 "
        "or square pixels; null where the classes are organs and no part of them is a finding of its own.",
    )
    detected_share: float = Field(
        0.1,
        gt=0,
        le=1,
        description="A lesion is found if at least this share of it is labelled with its class.",
    )
    margins: Margins = Margins()
    evidence: Evidence = Evidence()


class DiceLossConfig(AnyLoss):
    """Of one label per pixel or voxel: Dice for the overlap that is judged, cross entropy for probabilities that can be trusted."""

    name: Literal["dice_cross_entropy"]
    dice_weight: float = Field(
        1.0,
        ge=0,
        description="Weight of 1 - Dice, averaged over the classes without background. 0 is cross entropy alone.",
    )
    cross_entropy_weight: float = Field(
        1.0, gt=0, description="Weight of the cross entropy, averaged over all pixels or voxels."
    )
    dice_sums: Literal["image", "batch"] = Field(
        "image",
        description="What Dice is summed over before dividing. image: every image counts the same. batch: steadier where a class is "
        "missing from many images or patches.",
    )
    deep_supervision: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Networks with outputs at several resolutions: weight of each relative to the finer one. 0: finest only.",
    )


LOSSES = (DiceLossConfig,)
