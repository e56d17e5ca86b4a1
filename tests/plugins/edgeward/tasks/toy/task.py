"""Which class it is, without saying how sure one is."""

from edgeward.tasks.base import Metric, Task

TASK = Task(
    name="toy",
    dense=False,
    spatial_dims=(2,),
    target="classes",
    per_case_outputs=("decisions.npy",),
    metrics=(Metric("accuracy", "Accuracy"), Metric("balanced", "Balanced accuracy")),
    class_metrics=(Metric("recall", "Recall"),),
    columns=("accuracy", "balanced"),
    brief=("accuracy",),
    primary="accuracy",
    quality=("accuracy", "balanced"),
    calibration=(),
    class_difference="recall",
    gained="recall",
    case="image",
    counted="images right",
    churned="Decisions that changed",
)
