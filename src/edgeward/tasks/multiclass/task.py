"""One of several classes for every image."""

from __future__ import annotations

from edgeward.tasks.base import AT_FIXED_POINTS, Metric, Task

TASK = Task(
    name="multiclass",
    dense=False,
    spatial_dims=(2, 3),
    target="classes",
    per_case_outputs=("logits.npy", "val_logits.npy"),
    metrics=(
        Metric("auc_macro", "AUC", "macro", long="AUC, macro one-vs-rest", short="AUC"),
        Metric("accuracy", "Accuracy", long="accuracy"),
        Metric("balanced_accuracy", "Balanced accuracy", long="balanced accuracy"),
        Metric(
            "rare_recall",
            "Rare recall",
            long="rare-class recall",
            short="rare recall",
            meaning="is the mean sensitivity over the rare classes. AUC can stay high while it falls, because rare "
            "classes hardly move a mean over images or ranks.",
            of="images of rare classes",
        ),
        Metric("nll", "NLL", long="negative log likelihood", better="lower", share=False),
        Metric("brier", "Brier", long="Brier score", better="lower", share=False),
        Metric(
            "ece",
            "RMS-ECE",
            "debiased",
            long="RMS-ECE, root mean square, debiased, bins of equal mass",
            short="RMS-ECE",
            meaning="is the root mean square gap between confidence and accuracy over bins of equal mass, less the part that "
            "chance alone adds. It is no smaller than the mean absolute gap that is usually called ECE, which is in the details "
            "(15 bins). 0 is perfect. Confidence refers to the prevalence of the data, not that of another site.",
            better="lower",
        ),
        Metric(
            "ece_15bin",
            "ECE, 15 bins",
            long="ECE, mean absolute, 15 bins of equal width",
            better="lower",
        ),
        Metric(
            "set_size",
            "Set size",
            long="mean size of the prediction sets",
            meaning="is the mean number of classes in a prediction set that holds the true class as often as promised, "
            "class by class: the larger, the less the model knows.",
            better="lower",
            share=False,
        ),
        Metric(
            "selective_risk",
            "Selective risk",
            long="risk of the decided share",
            meaning="is the share of wrong decisions among the images of which the model is most confident; the others "
            "would be left to people.",
            better="lower",
        ),
        Metric("smooth_ece", "Smooth ECE", long="smooth ECE", better="lower"),
        Metric(
            "ece_temperature_scaled",
            "ECE, temperature scaled",
            long="ECE after temperature scaling",
            better="lower",
        ),
    ),
    class_metrics=(
        Metric("recall", "Sensitivity", long="sensitivity"),
        Metric("specificity", "Specificity", long="specificity", compared=False),
        Metric("auc", "AUC"),
        *AT_FIXED_POINTS,
        Metric(
            "set_coverage", "Coverage", "of prediction sets", long="coverage of prediction sets"
        ),
        Metric(
            "classwise_ece",
            "Classwise ECE",
            long="classwise ECE",
            digits=4,
            better="lower",
            compared=False,
        ),
    ),
    columns=("auc_macro", "balanced_accuracy", "rare_recall", "ece"),
    brief=("auc_macro", "rare_recall", "ece"),
    primary="rare_recall",
    quality=(
        "auc_macro",
        "accuracy",
        "balanced_accuracy",
        "rare_recall",
        "set_size",
        "selective_risk",
    ),
    calibration=("ece", "ece_15bin", "smooth_ece", "ece_temperature_scaled", "nll", "brier"),
    class_difference="recall",
    gained="recall",
    strata=("accuracy", "balanced_accuracy"),
    case="test image",
    counts={"rare": "of rare classes"},
    counted="images right",
    churned="Predictions that changed",
)
