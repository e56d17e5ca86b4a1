"""What a report shows of each task: the metrics, what they are called, what is drawn against latency.

Standard library only, since the end summary in the terminal uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """One metric of ``safety.json``.

    Attributes
    ----------
    name : its key.
    title, note : heading of its column, and what stands small below it.
    long : its name in a list.
    digits : decimals shown.
    """

    name: str
    title: str
    note: str = ""
    long: str = ""
    digits: int = 3

    @property
    def label(self) -> str:
        """Its name in a list or on an axis."""
        return self.long or self.title


@dataclass(frozen=True)
class Task:
    """How candidates for a task are reported.

    Attributes
    ----------
    required : keys without which ``safety.json`` is refused.
    columns : metrics of the comparison, with their differences to the reference.
    primary : the one of them that is drawn against latency; higher is better.
    brief : names of those in the terminal.
    quality, calibration : metrics of the checklist and of a candidate's details.
    per_class : metrics of each class.
    class_difference : key of a class's difference in ``verdict.json``, to be formatted with its name.
    delta : heading of the primary metric's difference.
    case : what the test set consists of.
    churned, counted : what changed, in a sentence; what gained and lost count.
    """

    name: str
    required: tuple[str, ...]
    columns: tuple[Metric, ...]
    primary: Metric
    brief: tuple[str, ...]
    quality: tuple[Metric, ...]
    calibration: tuple[Metric, ...]
    per_class: tuple[Metric, ...]
    class_difference: str
    delta: str
    case: str
    churned: str
    counted: str

    @property
    def segments(self) -> bool:
        """True where a label for every pixel or voxel is predicted."""
        return self.name == "segmentation"

    def column(self, name: str) -> Metric:
        """Return the metric of the comparison with this name."""
        return next(metric for metric in self.columns if metric.name == name)


_COMMON = ("n", "classes", "rare_classes", "ece", "per_class", "reliability", "confusion")
_RARE_RECALL = Metric("rare_recall", "Rare recall", long="rare-class recall")
_DICE = Metric("dice", "Dice", "per image", "Dice per image")
_HD95 = Metric("hd95", "HD95", "mm", "HD95", digits=2)
_SURFACE_DICE = Metric("surface_dice", "Surface Dice")
_SMALL = Metric(
    "small_lesion_sensitivity", "Small lesions", "found", "sensitivity to small lesions"
)

CLASSIFICATION = Task(
    name="multiclass",
    required=(*_COMMON, "auc_macro", "accuracy", "balanced_accuracy", "rare_recall"),
    columns=(
        Metric("auc_macro", "AUC", "macro"),
        Metric("balanced_accuracy", "Balanced accuracy"),
        _RARE_RECALL,
        Metric("ece", "ECE"),
    ),
    primary=_RARE_RECALL,
    brief=("auc_macro", "rare_recall", "ece"),
    quality=(
        Metric("auc_macro", "AUC, macro one-vs-rest"),
        Metric("accuracy", "accuracy"),
        Metric("balanced_accuracy", "balanced accuracy"),
        Metric("rare_recall", "rare-class recall"),
    ),
    calibration=(
        Metric("ece", "ECE, root mean square, debiased, bins of equal mass", digits=4),
        Metric("ece_15bin", "ECE, mean absolute, 15 bins of equal width", digits=4),
        Metric("smooth_ece", "smooth ECE", digits=4),
        Metric("ece_temperature_scaled", "ECE after temperature scaling", digits=4),
        Metric("nll", "negative log likelihood", digits=4),
        Metric("brier", "Brier score", digits=4),
    ),
    per_class=(
        Metric("sensitivity", "Sensitivity"),
        Metric("specificity", "Specificity"),
        Metric("auc", "AUC"),
        Metric("classwise_ece", "Classwise ECE", digits=4),
    ),
    class_difference="recall_{}",
    delta="Δ rare recall",
    case="test image",
    churned="Predictions that changed",
    counted="images right",
)

SEGMENTATION = Task(
    name="segmentation",
    required=(
        *_COMMON, "dice", "hd95", "surface_dice", "small_lesion_sensitivity", "boundary_ece",
        "boundary_reliability",
    ),
    columns=(
        _DICE,
        _HD95,
        _SURFACE_DICE,
        _SMALL,
        Metric("ece", "ECE", "all"),
        Metric("boundary_ece", "ECE", "at boundaries", "boundary ECE"),
    ),
    primary=_DICE,
    brief=("dice", "hd95", "small_lesion_sensitivity", "ece", "boundary_ece"),
    quality=(
        _DICE,
        Metric("dice_pooled", "Dice, all cases pooled"),
        Metric("iou", "IoU per image"),
        _HD95,
        Metric("surface_dice", "surface Dice"),
        Metric("lesion_sensitivity", "share of lesions found"),
        Metric("small_lesion_sensitivity", "share of small lesions found"),
        Metric("false_lesions", "false lesions per case", digits=2),
        Metric("false_alarms", "share of cases without the class in which it is predicted"),
    ),
    calibration=(
        Metric("ece", "ECE, root mean square, debiased, all pixels or voxels", digits=4),
        Metric("ece_15bin", "ECE, mean absolute, 15 bins", digits=4),
        Metric("boundary_ece", "ECE near boundaries, root mean square, debiased", digits=4),
        Metric("boundary_ece_15bin", "ECE near boundaries, mean absolute, 15 bins", digits=4),
    ),
    per_class=(
        _DICE,
        Metric("dice_pooled", "Dice", "pooled"),
        Metric("iou", "IoU"),
        _HD95,
        _SURFACE_DICE,
        Metric("lesion_sensitivity", "Lesions", "found"),
        _SMALL,
        Metric("false_lesions", "False lesions", "per case", digits=2),
        Metric("false_alarms", "False alarms", "of cases without it"),
    ),
    class_difference="dice_{}",
    delta="Δ Dice",
    case="test case",
    churned="Share labelled differently, mean over cases",
    counted="lesions found",
)  # fmt: skip

TASKS = {task.name: task for task in (CLASSIFICATION, SEGMENTATION)}


def length_unit(card: Mapping[str, Any]) -> str:
    """Return the unit of lengths on a data set: mm for volumes, pixels for images in the plane."""
    return "mm" if card.get("spatial_dims") == 3 else "px"


def noted(metric: Metric, card: Mapping[str, Any]) -> str:
    """Return what stands below a metric's heading for a data set."""
    return length_unit(card) if metric.name == _HD95.name else metric.note
