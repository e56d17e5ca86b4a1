"""Several findings for every image, or none, each called on its own."""

from __future__ import annotations

from edgeward.tasks.base import AT_FIXED_POINTS, Metric, Task

TASK = Task(
    name="multilabel",
    dense=False,
    exclusive=False,
    together=True,
    spatial_dims=(2,),
    target="findings",
    per_case_outputs=("logits.npy", "val_logits.npy"),
    metrics=(
        Metric("auc_macro", "AUC", "mean", long="AUC, mean over the findings", short="AUC"),
        Metric(
            "map",
            "mAP",
            meaning="is average precision, mean over the findings. It weighs rare findings as common ones: it falls where a rare one is no longer ranked before the cases without it.",
        ),
        Metric("sensitivity", "Sensitivity", "mean", long="sensitivity, mean over the findings"),
        Metric("specificity", "Specificity", "mean", long="specificity, mean over the findings"),
        Metric(
            "balanced_accuracy",
            "Balanced accuracy",
            long="balanced accuracy, mean of sensitivity and specificity over the findings",
        ),
        Metric(
            "rare_recall",
            "Rare recall",
            long="rare-finding recall",
            short="rare recall",
            meaning="is the mean sensitivity over the rare findings, at the threshold of each.",
            of="images with rare findings",
        ),
        Metric("f1_macro", "F1", "mean", long="F1, mean over the findings"),
        Metric(
            "label_accuracy",
            "Calls right",
            long="share of right calls (1 - Hamming loss)",
            digits=4,
        ),
        Metric("exact_match", "All right", long="share of images with every finding called right"),
        Metric("nll", "NLL", long="binary cross entropy", better="lower", share=False),
        Metric("brier", "Brier", long="Brier score, mean over findings and images", better="lower"),
        Metric(
            "ece",
            "RMS-ECE",
            "debiased",
            long="RMS-ECE of all findings, root mean square, debiased, bins of equal mass",
            short="RMS-ECE",
            better="lower",
        ),
        Metric(
            "ece_15bin",
            "ECE, 15 bins",
            long="ECE of all findings, mean absolute, 15 bins of equal width",
            better="lower",
        ),
        Metric(
            "set_size",
            "Set size",
            long="mean size of the prediction sets",
            meaning="is the mean number of findings in a prediction set that holds each finding of a case as often as promised: the "
            "larger, the less the model knows.",
            better="lower",
            share=False,
        ),
    ),
    class_metrics=(
        Metric("recall", "Sensitivity", long="sensitivity"),
        Metric("specificity", "Specificity", long="specificity"),
        Metric("auc", "AUC"),
        Metric("ap", "AP", long="average precision"),
        Metric("f1", "F1"),
        *AT_FIXED_POINTS,
        Metric(
            "set_coverage", "Coverage", "of prediction sets", long="coverage of prediction sets"
        ),
        Metric(
            "ece",
            "RMS-ECE",
            long="RMS-ECE of the finding",
            digits=4,
            better="lower",
            compared=False,
        ),
        Metric("brier", "Brier", digits=4, better="lower", compared=False),
    ),
    columns=("auc_macro", "map", "balanced_accuracy", "rare_recall", "ece"),
    brief=("auc_macro", "map", "rare_recall", "ece"),
    primary="map",
    quality=(
        "auc_macro",
        "map",
        "sensitivity",
        "specificity",
        "balanced_accuracy",
        "rare_recall",
        "f1_macro",
        "label_accuracy",
        "exact_match",
        "set_size",
    ),
    calibration=("ece", "ece_15bin", "nll", "brier"),
    class_difference="recall",
    gained="recall",
    strata=("exact_match", "balanced_accuracy"),
    case="test image",
    counts={"rare": "with rare findings"},
    counted="images with the finding called",
    churned="Calls that changed, mean over images",
    unsupported={
        "temperature_scale": "one temperature is fitted on one decision per image",
    },
)
