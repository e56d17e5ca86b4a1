"""The ``train`` config group, and the part of it that fine-tuning recipes embed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeward.core.config import Closed

Fraction = Annotated[float, Field(ge=0, le=1)]


class LossConfig(Closed):
    """What is minimised. Keys that the chosen loss does not use are ignored."""

    name: Annotated[
        Literal["cross_entropy", "class_balanced", "logit_adjusted", "focal"],
        Field(description="logit_adjusted and class_balanced train for balanced error"),
    ]
    tau: Annotated[float, Field(ge=0, description="logit_adjusted: strength; 1 is the theory's")]
    beta: Annotated[float, Field(ge=0, lt=1, description="class_balanced: 0 is unweighted")]
    gamma: Annotated[float, Field(ge=0, description="focal: 0 is cross entropy")]
    label_smoothing: Annotated[float, Field(ge=0, lt=1, description="not for focal")]

    @model_validator(mode="after")
    def _focal_is_not_smoothed(self) -> LossConfig:
        if self.name == "focal" and self.label_smoothing > 0:
            raise ValueError("label_smoothing must be 0 with the focal loss")
        return self


class DiceLossConfig(Closed):
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


Side = Annotated[int, Field(ge=8, le=512)]


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


class ConstraintMargins(Closed):
    """By how much the compressed network may be worse than the uncompressed one."""

    recall: Annotated[float, Field(ge=0, lt=1, description="of each rare class, as a share")]
    ece: Annotated[float, Field(ge=0, lt=1, description="calibration error, as a share")]


class AcceptanceConfig(Closed):
    """The non-inferiority test on the validation split, after the last step; recorded only."""

    margins: ConstraintMargins
    confidence_level: Annotated[float, Field(ge=0.5, lt=1, description="two-sided")]
    resamples: Annotated[int, Field(ge=200, le=100_000, description="of the paired bootstrap")]
    ece_bins: Annotated[int, Field(ge=2, le=100, description="equal-mass bins of the ECE")]


class SafetyLimits(Closed):
    """What must hold: soft recall of every rare class, and kernel ECE, against the uncompressed model."""

    margins: ConstraintMargins
    recall_temperature: Annotated[
        float, Field(gt=0, description="softness of the recall, in logits; towards 0 it is a count")
    ]
    ece_bandwidth: Annotated[
        float, Field(gt=0, le=1, description="of the kernel, in units of confidence")
    ]
    acceptance: AcceptanceConfig


class ConstraintConfig(SafetyLimits):
    """Fine-tuning under `SafetyLimits`: multipliers by projected dual ascent."""

    batch_size: Annotated[
        int, Field(ge=2, description="of the constraint batch: training images, all classes equal")
    ]
    every: Annotated[int, Field(ge=1, description="steps from one constraint batch to the next")]
    multipliers_from: Annotated[
        Literal["train", "val"], Field(description="whose violations the multipliers follow")
    ]
    dual_rate: Annotated[
        float, Field(gt=0, description="multiplier gained per constraint batch and unit violated")
    ]
    penalty: Annotated[
        float, Field(ge=0, description="weight of a violation beside its multiplier, per unit")
    ]
    largest_multiplier: Annotated[float, Field(gt=0, description="limit of every multiplier")]


class LearningConfig(Closed):
    """What all training shares: AdamW, linear warm-up, cosine to zero."""

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)]
    lr: Annotated[float, Field(gt=0, description="peak learning rate")]
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_fraction: Annotated[Fraction, Field(description="share of all steps that warm up")]
    grad_clip: Annotated[float, Field(gt=0, description="largest norm of the gradient")]
    loss: Annotated[LossConfig | DiceLossConfig, Field(discriminator="name")]
    augment: AugmentConfig


class FinetuneConfig(LearningConfig):
    """A short training of an already trained network."""

    constraint: Annotated[
        ConstraintConfig | None,
        Field(
            description="what rare classes and calibration may lose; null: whatever the loss asks"
        ),
    ]


class TrainConfig(LearningConfig):
    """Training from scratch."""

    patches: Annotated[
        PatchConfig | None, Field(description="of volumes; null for images in the plane")
    ]
    sampling: Annotated[
        Literal["natural", "class_balanced"],
        Field(description="how an epoch's images are drawn"),
    ]
    ema_decay: Annotated[float, Field(ge=0, lt=1, description="per step; 0 turns averaging off")]
    early_stop_patience: Annotated[int, Field(ge=1, description="epochs without improvement")]
    select: Annotated[Literal["best", "last"], Field(description="the epoch whose weights ship")]
    memory_format: Annotated[Literal["channels_last", "contiguous"], Field(description="layout")]
    precision: Annotated[Literal["auto", "fp32", "bf16"], Field(description="auto measures")]
    accelerator: Annotated[Literal["auto", "cpu", "cuda"], Field(description="where to train")]
