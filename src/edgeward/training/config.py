"""The ``train`` config group, and the part of it that fine-tuning recipes embed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Union

from pydantic import Field

from edgeward.core import plugins
from edgeward.core.config import Closed, inherited
from edgeward.tasks.base import DEFAULT_TASK, task_names
from edgeward.tasks.config import AnyLoss, AugmentConfig, Fraction, PatchConfig

if not TYPE_CHECKING:
    _LOSSES = [
        loss
        for name in task_names()
        for loss in plugins.load("edgeward.tasks", name, "config", "config/train/").LOSSES
    ]
    AnyLoss = Annotated[Union[tuple(_LOSSES)], Field(discriminator="name")]  # noqa: UP007


# The task whose loss is meant where nothing is said; a loss says by its name of which task it is.
DEFAULT_LOSS: AnyLoss = plugins.load(
    "edgeward.tasks", DEFAULT_TASK, "config", "config/train/"
).LOSSES[0]()
Recall = Annotated[
    float, Field(ge=0, lt=1, description="Soft recall of each rare class, as a share.")
]
Ece = Annotated[float, Field(ge=0, lt=1, description="Kernel ECE, as a share.")]
RecallTemperature = Annotated[
    float,
    Field(
        gt=0,
        description="Softness of the recall in logits: images within a few of these of the decision boundary count in part. Few "
        "images of a class make a count coarse, and one flip would send layers to float. Smaller is nearer to the count of found "
        "images, but fewer images give a gradient: at 1.0 a loss of 14 points in the count was 2 points in the soft recall.",
    ),
]


class ConstraintMargins(Closed):
    """What the compressed network may lose against the uncompressed one. Tighter than the verdict's margins: those are for the
    limit of an interval, which lies well beyond the estimate."""

    recall: Recall = 0.01
    ece: Ece = 0.005


class TrainingMargins(ConstraintMargins):
    """What the compressed network may lose against the uncompressed one, on the constraint batch."""

    recall: Recall = 0.0
    ece: Ece = 0.01


class AcceptanceMargins(ConstraintMargins):
    """The verdict's margins."""

    recall: float = inherited(
        "safety.<task>.margins.recall", 0.05, "Recall of each rare class, as a share."
    )
    ece: float = inherited("safety.<task>.margins.ece", 0.02, "ECE, as a share.")


class AcceptanceConfig(Closed):
    """The non-inferiority test on the validation split at the end, which is recorded (recipe.json) and decides nothing."""

    margins: AcceptanceMargins = AcceptanceMargins()
    confidence_level: float = Field(
        0.95, ge=0.5, lt=1, description="Two-sided; 0.95 tests at one-sided 2.5 %."
    )
    resamples: int = Field(
        2000, ge=200, le=100_000, description="Resamples of the paired bootstrap, by group."
    )
    ece_bins: int = Field(15, ge=2, le=100, description="Equal-mass bins of the ECE.")


class SafetyLimits(Closed):
    """What must hold: soft recall of every rare class, and kernel ECE, against the uncompressed model."""

    margins: ConstraintMargins = ConstraintMargins()
    recall_temperature: RecallTemperature = 1.0
    ece_bandwidth: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Width of the kernel of the calibration error, in units of confidence. Smaller sees finer faults and more noise.",
    )
    acceptance: AcceptanceConfig = AcceptanceConfig()


class ConstraintConfig(SafetyLimits):
    """Fine-tuning under a constraint: multipliers by projected dual ascent."""

    margins: TrainingMargins = TrainingMargins()
    recall_temperature: RecallTemperature = 0.3
    batch_size: int = Field(
        112,
        ge=2,
        description="Training images per constraint batch, all classes equally often: 16 of each of 7 classes. More is less noise.",
    )
    every: int = Field(
        1,
        ge=1,
        description="Steps from one constraint batch to the next; each costs up to two steps of the same size, so 1 takes up to "
        "three times as long as without. Fewer batches (2, 4) see a loss later.",
    )
    multipliers_from: Literal["train", "val"] = Field(
        "val",
        description="Whose violations the multipliers follow; the gradients are of training images in any case. train: these images, "
        "which every epoch fits better, so that the constraint may look kept where unseen images lose. val: a batch of validation "
        "images beside them, which makes the acceptance test optimistic; the verdict is of test images.",
    )
    dual_rate: float = Field(
        1.0,
        gt=0,
        description="What a multiplier gains per constraint batch and unit violated: with 1.0, five points too little recall raise "
        "it by 1 within 20 batches. Far larger ones overshoot: the rare class is then bought with all others.",
    )
    penalty: float = Field(
        10.0,
        ge=0,
        description="What a violation weighs beside its multiplier, per unit: with 10, five points too little recall weigh 0.5 at "
        "once, and nothing when they are back. 0 leaves all to the multipliers, which are late in a short fine-tuning.",
    )
    largest_multiplier: float = Field(
        10.0,
        gt=0,
        description="Neither a multiplier nor its sum with the penalty exceeds this, so a constraint that cannot be met does not "
        "drown the loss.",
    )


GradClip = Annotated[float, Field(gt=0, description="Largest norm of a step's gradient.")]
WarmupFraction = Annotated[
    Fraction,
    Field(
        description="Share of all steps over which the rate rises from zero before it falls as a cosine."
    ),
]


class LearningConfig(Closed):
    """What all training shares: AdamW, linear warm-up, cosine to zero."""

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    warmup_fraction: WarmupFraction = 0.1
    grad_clip: GradClip = 1.0
    loss: AnyLoss
    augment: AugmentConfig


FinetuneEpochs = Annotated[
    int,
    Field(
        ge=1,
        description="Passes over the training images. Few for quantization, whose weights only have to move by fractions of a "
        "rounding step; more where more was taken away.",
    ),
]
FinetuneRate = Annotated[
    float,
    Field(
        gt=0,
        description="Peak learning rate, below training's: the more is taken away, the more has to be learnt again. For quantization a "
        "tenth of training's or less, or what training found is lost.",
    ),
]


class FinetuneConfig(LearningConfig):
    """A short training of an already trained network."""

    epochs: FinetuneEpochs = 6
    batch_size: int = Field(64, ge=2, description="Images per step.")
    lr: FinetuneRate = 5e-4
    weight_decay: float = Field(
        0.0, ge=0, description="AdamW's; 0, since decay over so few steps only shrinks the ranges."
    )
    loss: AnyLoss = inherited(
        "train.loss", DEFAULT_LOSS, "That of training, so that nothing but the compression is new."
    )
    augment: AugmentConfig = inherited(
        "train.augment",
        AugmentConfig(),
        "That of training, so that nothing but the compression is new.",
    )
    constraint: ConstraintConfig | None = Field(
        None,
        description="What rare classes and calibration may lose (docs/safe-compression.md); null: nothing but the loss counts.",
    )


class TrainConfig(LearningConfig):
    """Training, from scratch or from weights."""

    epochs: int = Field(
        8,
        ge=0,
        description="Passes over the training cases; 0 takes the weights of the model as they are. Raise it until validation AUC or Dice (history.csv) is flat at the end.",
    )
    batch_size: int = Field(
        32,
        ge=2,
        description="Images a step (of volumes: patches, each of another one). Small batches take more steps from the same time; "
        "below 32, batch norms get noisy.",
    )
    lr: float = Field(
        0.002,
        gt=0,
        description="Peak learning rate of AdamW. Halve it if the loss jumps or training diverges.",
    )
    weight_decay: float = Field(
        0.05,
        ge=0,
        description="Decay of the weights (not of norms and biases). More regularises more.",
    )
    loss: AnyLoss = Field(
        DEFAULT_LOSS, description="What is minimised; each task has its own (`name`)."
    )
    augment: AugmentConfig = AugmentConfig()
    backbone_lr: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Rate of all layers but the head, as a share of lr, where a network starts from weights: a tenth leaves pretrained features "
        "near where they were.",
    )
    frozen_epochs: int = Field(
        0,
        ge=0,
        description="First epochs in which only the head learns, where a network starts from weights, so that a random head does not "
        "disturb them.",
    )
    patches: PatchConfig | None = Field(
        None,
        description="How volumes are cut; null for images in the plane, which are taken whole.",
    )
    sampling: Literal["natural", "class_balanced"] = Field(
        "natural",
        description="natural: every case once an epoch. class_balanced: every class (of masks: every stratum of the split) equally "
        "often, with replacement; not together with logit_adjusted or class_balanced losses, which correct the same thing.",
    )
    ema_decay: float = Field(
        0.98,
        ge=0,
        lt=1,
        description="Moving average of the weights, per step; its reach is about 1/(1-decay) steps, 0 turns it off. It is what is "
        "judged and shipped.",
    )
    early_stop_patience: int = Field(
        20,
        ge=1,
        description="Epochs without a better balanced accuracy (Dice) on validation after which training ends.",
    )
    select: Literal["best", "last"] = Field(
        "best",
        description="best: the epoch with the best balanced accuracy (mean class Dice) on validation. last: the end of the schedule.",
    )
    memory_format: Literal["channels_last", "contiguous"] = Field(
        "channels_last",
        description="channels_last: 1.5 times as fast on CPU for convolutions in the plane, and in bfloat16 twice for those of volumes. contiguous: "
        "if a model is slower with it.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="auto: time a few steps of both and take bf16 if it is clearly faster; or fp32, bf16.",
    )
    accelerator: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a GPU if there is one; or cpu, cuda."
    )
