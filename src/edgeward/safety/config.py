"""Keys of the ``safety`` group; the values are in ``config/safety/``."""

from __future__ import annotations

from pydantic import Field

from edgeward.core.config import Closed


class Margins(Closed):
    """Largest loss that still counts as "as good as the reference", per endpoint, in its own unit."""

    recall: float = Field(
        gt=0, lt=1, description="Of each rare class, as a share (0.05 = 5 points)."
    )
    balanced_accuracy: float = Field(gt=0, lt=1, description="Mean recall over all classes.")
    auc: float = Field(gt=0, lt=1, description="Macro one-vs-rest AUC.")
    ece: float = Field(gt=0, lt=1, description="Root mean square calibration error, debiased.")


class Evidence(Closed):
    """Below these an endpoint is never passed, whatever its interval says."""

    reference_recall: float = Field(
        ge=0,
        lt=1,
        description="A rare class whose reference recall is surely below has nothing to lose.",
    )
    groups_per_class: int = Field(ge=2, description="Test groups of every class, for AUC.")
    groups: int = Field(ge=2, description="Test groups in all, for ECE.")


class StudyConfig(Closed):
    """What every assessment reads, whatever the task."""

    reference: str = Field(min_length=1, description="Recipe that the others are compared with.")
    confidence_level: float = Field(ge=0.5, lt=1, description="Of all intervals, two-sided.")
    resamples: int = Field(ge=200, le=100_000, description="Bootstrap resamples.")
    seed: int = Field(ge=0, description="Of the resamples.")
    power: float = Field(gt=0.5, lt=1, description="For the number of cases needed.")
    batch_size: int = Field(ge=1, description="Images per inference call.")


class SafetyConfig(StudyConfig):
    """What the stage ``assess`` reads for classification."""

    ece_bins: int = Field(ge=2, le=100, description="Equal-mass bins of ECE and reliability data.")
    margins: Margins
    evidence: Evidence


class DenseMargins(Closed):
    """As `Margins`, for segmentation."""

    dice: float = Field(gt=0, lt=1, description="Mean over the classes of Dice per image.")
    dice_per_class: float = Field(gt=0, lt=1, description="Dice per image of each class.")
    small_lesion_sensitivity: float = Field(gt=0, lt=1, description="Share of small lesions found.")
    ece: float = Field(
        gt=0, lt=1, description="Root mean square calibration error of all pixels, debiased."
    )
    boundary_ece: float = Field(gt=0, lt=1, description="The same near boundaries.")


class DenseEvidence(Closed):
    """As `Evidence`, for segmentation."""

    reference_dice: float = Field(
        ge=0, lt=1, description="A class whose reference Dice is surely below has nothing to lose."
    )
    groups: int = Field(ge=2, description="Test groups, in all and with each class.")


class SegmentationConfig(Closed):
    """What is measured of label maps. Lengths are in mm for volumes, in pixels for images."""

    tolerance: float = Field(gt=0, description="Surface Dice: distance that still counts as met.")
    boundary: float = Field(gt=0, description="Half width of the band of the boundary ECE.")
    small_lesion: float | None = Field(
        gt=0,
        description="Largest small lesion, mm3 or square pixels; null: no endpoint for small lesions.",
    )
    detected_share: float = Field(
        gt=0, le=1, description="Share of a lesion's voxels that must be labelled to find it."
    )
    overlap: float = Field(
        ge=0, lt=1, description="Share that neighbouring windows have in common."
    )
    windows: int = Field(ge=1, description="Windows per inference call, for volumes.")
    margins: DenseMargins
    evidence: DenseEvidence


class DenseConfig(StudyConfig):
    """What the stage ``assess`` reads for segmentation."""

    segmentation: SegmentationConfig


class SafetyGroup(SafetyConfig):
    """The ``safety`` group: both tasks; a stage reads the part of its own."""

    segmentation: SegmentationConfig
