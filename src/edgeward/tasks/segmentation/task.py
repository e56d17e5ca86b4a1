"""A label for every pixel or voxel."""

from __future__ import annotations

from edgeward.tasks.base import Metric, Task

PER_CLASS = (
    Metric(
        "dice",
        "Dice",
        "per image",
        long="Dice per image",
        short="Dice",
        meaning="is that of each case, averaged over the cases whose mask has the class, then over the classes: "
        "1 is perfect.",
    ),
    Metric("iou", "IoU", long="IoU per image"),
    Metric(
        "hd95",
        "HD95",
        short="HD95",
        meaning="is the distance within which 95 % of both outlines have the other one.",
        digits=2,
        better="lower",
        unit="length",
        share=False,
    ),
    Metric("surface_dice", "Surface Dice", long="surface Dice"),
    Metric("dice_pooled", "Dice", "pooled", long="Dice, all cases pooled"),
    Metric(
        "false_lesions",
        "False lesions",
        "per case",
        long="false lesions per case",
        digits=2,
        better="lower",
        share=False,
    ),
    Metric(
        "false_alarms",
        "False alarms",
        "of cases without it",
        long="share of cases without the class in which it is predicted",
        better="lower",
    ),
    Metric("lesion_sensitivity", "Lesions", "found", long="lesions found", of="lesions"),
    Metric(
        "small_lesion_sensitivity",
        "Small lesions",
        "found",
        long="small lesions found",
        short="small",
        meaning="are the rare finding of a segmentation: Dice hardly moves when one is missed. A lesion is a "
        "connected part of a class in the mask.",
        of="small lesions",
    ),
)

TASK = Task(
    name="segmentation",
    dense=True,
    spatial_dims=(2, 3),
    target="masks",
    per_case_outputs=("cases.csv", "lesions.csv", "reliability.csv", "predictions.npz"),
    metrics=(
        *PER_CLASS,
        Metric(
            "ece",
            "RMS-ECE",
            "all",
            long="RMS-ECE, root mean square, debiased, all pixels or voxels",
            short="RMS-ECE",
            meaning="is the root mean square gap between confidence and accuracy over bins, less the part that chance alone adds. "
            "It is no smaller than the mean absolute gap that is usually called ECE, which is in the details. 0 is perfect.",
            better="lower",
        ),
        Metric("ece_15bin", "ECE, 15 bins", long="ECE, mean absolute, 15 bins", better="lower"),
        Metric(
            "boundary_ece",
            "RMS-ECE",
            "at boundaries",
            long="RMS-ECE near boundaries, root mean square, debiased",
            short="at rim",
            meaning="shows near boundaries what a mean over easy background hides.",
            better="lower",
        ),
        Metric(
            "boundary_ece_15bin",
            "ECE near boundaries, 15 bins",
            long="ECE near boundaries, mean absolute, 15 bins",
            better="lower",
        ),
    ),
    class_metrics=PER_CLASS,
    columns=("dice", "hd95", "surface_dice", "small_lesion_sensitivity", "ece", "boundary_ece"),
    brief=("dice", "hd95", "small_lesion_sensitivity", "ece", "boundary_ece"),
    primary="dice",
    quality=(
        "dice",
        "dice_pooled",
        "iou",
        "hd95",
        "surface_dice",
        "lesion_sensitivity",
        "small_lesion_sensitivity",
        "false_lesions",
        "false_alarms",
    ),
    calibration=("ece", "ece_15bin", "boundary_ece", "boundary_ece_15bin"),
    class_difference="dice",
    strata=("dice",),
    gained="lesion_sensitivity",
    drawn=("dice", "surface_dice", "lesion_sensitivity", "small_lesion_sensitivity"),
    case="test case",
    counts={"lesions": "lesions", "small_lesions": "of them small"},
    counted="lesions found",
    churned="Share labelled differently, mean over cases",
    unsupported={
        "safety_constraint": "the constraint is about the recalls of classes of images",
        "temperature_scale": "a temperature is fitted on one decision per image",
        "align_decisions": "decisions are counted, one per image",
    },
)
