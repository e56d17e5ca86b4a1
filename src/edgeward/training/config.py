"""The ``train`` config group, and the part of it that fine-tuning recipes embed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Union

from pydantic import Field

from edgeward.core import plugins
from edgeward.core.config import Closed
from edgeward.tasks.base import task_names
from edgeward.tasks.config import AnyLoss, AugmentConfig, Fraction, PatchConfig

if not TYPE_CHECKING:
    _LOSSES = [
        loss
        for name in task_names()
        for loss in plugins.load("edgeward.tasks", name, "config", "config/train/").LOSSES
    ]
    AnyLoss = Annotated[Union[tuple(_LOSSES)], Field(discriminator="name")]  # noqa: UP007


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
    loss: AnyLoss
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
