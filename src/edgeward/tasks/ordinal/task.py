"""One of several grades for every image: classes that have an order."""

from __future__ import annotations

from edgeward.tasks.base import AT_FIXED_POINTS, Metric, Task

TASK = Task(
    name="ordinal",
    dense=False,
    exclusive=False,
    spatial_dims=(2, 3),
    target="classes",
    per_case_outputs=("logits.npy", "val_logits.npy"),
    metrics=(
        Metric(
            "kappa",
            "Kappa",
            "quadratic",
            long="Cohen's kappa, quadratic weights",
            short="kappa",
            meaning="is the agreement with the truth beyond chance, in which a decision that is two grades off counts four times one that "
            "is one off. 1 is perfect, 0 is chance.",
            share=False,
        ),
        Metric(
            "mean_absolute_error",
            "MAE",
            "grades",
            long="mean absolute error, grades",
            meaning="is by how many grades a decision is off, mean over the images.",
            better="lower",
            share=False,
        ),
        Metric("accuracy", "Accuracy", long="share of images with the right grade"),
        Metric("far_off", "Far off", long="share of images two or more grades off", better="lower"),
        Metric("auc_macro", "AUC", "mean", long="AUC, mean over the steps", short="AUC"),
        Metric("sensitivity", "Sensitivity", "mean", long="sensitivity, mean over the steps"),
        Metric("specificity", "Specificity", "mean", long="specificity, mean over the steps"),
        Metric(
            "balanced_accuracy",
            "Balanced accuracy",
            long="balanced accuracy, mean of sensitivity and specificity over the steps",
        ),
        Metric(
            "rare_recall",
            "Rare recall",
            long="sensitivity, mean over the rare steps",
            short="rare recall",
            of="images beyond rare steps",
        ),
        Metric(
            "disordered",
            "Disordered",
            long="share of images called beyond a step but not beyond a lower one",
            better="lower",
        ),
        Metric("nll", "NLL", long="binary cross entropy of the steps", better="lower", share=False),
        Metric("brier", "Brier", long="Brier score, mean over steps and images", better="lower"),
        Metric(
            "ece",
            "RMS-ECE",
            "debiased",
            long="RMS-ECE of all steps, root mean square, debiased, bins of equal mass",
            short="RMS-ECE",
            better="lower",
        ),
        Metric(
            "ece_15bin",
            "ECE, 15 bins",
            long="ECE of all steps, mean absolute, 15 bins of equal width",
            better="lower",
        ),
    ),
    class_metrics=(
        Metric("recall", "Sensitivity", long="sensitivity"),
        Metric("specificity", "Specificity", long="specificity"),
        Metric("auc", "AUC"),
        *AT_FIXED_POINTS,
        Metric(
            "ece", "RMS-ECE", long="RMS-ECE of the step", digits=4, better="lower", compared=False
        ),
        Metric("brier", "Brier", digits=4, better="lower", compared=False),
    ),
    columns=("kappa", "mean_absolute_error", "auc_macro", "ece"),
    brief=("kappa", "mean_absolute_error", "ece"),
    primary="kappa",
    quality=(
        "kappa",
        "mean_absolute_error",
        "accuracy",
        "far_off",
        "auc_macro",
        "sensitivity",
        "specificity",
        "balanced_accuracy",
        "rare_recall",
        "disordered",
    ),
    calibration=("ece", "ece_15bin", "nll", "brier"),
    class_difference="recall",
    gained="recall",
    strata=("accuracy", "balanced_accuracy"),
    case="test image",
    counts={"rare": "beyond rare steps"},
    counted="images called beyond the step",
    churned="Calls that changed, mean over images",
    unsupported={
        "temperature_scale": "one temperature is fitted on one decision per image",
    },
)
