"""What is predicted, as an object: a task is a folder of this package, and nothing else asks which one it is.

A folder ``tasks/<name>/`` holds

``task.py``
    `TASK`, a `Task`: its facts. Standard library only.
``config.py``
    its keys: `Safety`, the section ``safety.<name>`` of the configuration, and `LOSSES`, the config models of the losses.
``data.py``
    ``targets(cases)``, what `prepare` takes from a source for it: see `edgeward.data.targets`.
``train.py``
    ``training_task(..)``, its losses, batches and validation metrics: see `edgeward.tasks.training`.
``assess.py``
    `Arm`, a model on the test cases: see `edgeward.tasks.assessment`.
``report.py``
    what a page shows of it besides the tables that all tasks share. Optional.

Only the part that a stage needs is imported (`edgeward.core.plugins.load`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgeward.core import plugins

DEFAULT_TASK = "multiclass"
"""The task whose loss is trained with where nothing is said; that of data which name none."""


@dataclass(frozen=True)
class Metric:
    """One number that is found of a model on the test cases.

    Attributes
    ----------
    name : its key in ``safety.json``, ``verdict.json`` and the pooled seeds.
    title, note : heading of its column, and what stands small below it.
    long : its name in a sentence or a list, if not the title.
    short : its heading in the terminal.
    meaning : what it is, in a sentence or two that follow its name.
    of : what the `n` of its interval counts.
    digits : decimals shown.
    better : which direction is better.
    unit : "" for shares and other bare numbers; "length": mm in volumes, pixels in the plane.
    share : whether it lies in [0, 1], as do limits of its interval.
    compared : of a class metric, whether ``verdict.json`` holds its difference.
    """

    name: str
    title: str
    note: str = ""
    long: str = ""
    short: str = ""
    meaning: str = ""
    of: str = "cases"
    digits: int = 3
    better: Literal["higher", "lower"] = "higher"
    unit: Literal["", "length"] = ""
    share: bool = True
    compared: bool = True

    @property
    def label(self) -> str:
        """Its name in a list or on an axis."""
        return self.long or self.title


AT_FIXED_POINTS = (
    Metric(
        "sensitivity_at_specificity",
        "Sensitivity",
        "at fixed specificity",
        long="sensitivity at fixed specificity",
    ),
    Metric(
        "specificity_at_sensitivity",
        "Specificity",
        "at fixed sensitivity",
        long="specificity at fixed sensitivity",
    ),
)
"""Class metrics at a point of the ROC curve that validation fixes (`edgeward.tasks.config.Operating`)."""


@dataclass(frozen=True)
class Task:
    """The facts of a task that other rooms read.

    Attributes
    ----------
    name : of the folder.
    dense : whether a label for every pixel or voxel is predicted, so which networks fit.
    exclusive : whether exactly one label is decided for, the one with the highest logit, whose probability is a softmax; if
        not, each label is decided for where its own logit is above 0, with the probability of a sigmoid.
    together : whether what is decided for a case is what labels are decided for, of which there may be several.
    spatial_dims : of the data that it can be asked of, so far.
    target : what a source must give of every case, see `edgeward.data.config`.
    per_case_outputs : names of the files in which `assess` keeps what it found of every case.
    metrics, class_metrics : of the test set, and of each class; in the order in which records hold them.
    columns, brief : names of the metrics in the comparison, and of those in the terminal.
    primary : name of the one that is drawn against latency; higher is better.
    quality, calibration : names of the metrics in checklists and details.
    class_difference : name of the class metric whose differences per class are drawn, tracked and pooled.
    strata : names of the metrics that are compared in subgroups of the cases, the first being that of endpoints there.
    drawn : names of the metrics of the test set whose differences are drawn below them.
    case : what the test set consists of.
    counts : what it counts besides cases and groups: key in ``safety.json``'s `n` -> how a sentence says it after the number.
    gained : name of the class metric, a share, whose units are counted as gained and lost.
    counted : what these are.
    churned : what changed between two models, in a sentence.
    unsupported : what cannot be done for the task (a capability that steps and losses name) -> why.
    """

    name: str
    dense: bool
    spatial_dims: tuple[int, ...]
    target: Literal["classes", "findings", "masks"]
    per_case_outputs: tuple[str, ...]
    metrics: tuple[Metric, ...]
    class_metrics: tuple[Metric, ...]
    columns: tuple[str, ...]
    brief: tuple[str, ...]
    primary: str
    quality: tuple[str, ...]
    calibration: tuple[str, ...]
    class_difference: str
    gained: str
    case: str
    counted: str
    churned: str
    exclusive: bool = True
    together: bool = False
    strata: tuple[str, ...] = ()
    drawn: tuple[str, ...] = ()
    counts: dict[str, str] = field(default_factory=dict)
    unsupported: dict[str, str] = field(default_factory=dict)

    def metric(self, name: str) -> Metric:
        """Return the metric of the test set, or else of a class, with this name."""
        return next(m for m in (*self.metrics, *self.class_metrics) if m.name == name)


def task(name: str, where: str) -> Task:
    """Return a task by its name; `where` names the file or key that it stands in, for the error."""
    found: Task = plugins.load("edgeward.tasks", name, "task", where).TASK
    return found


def task_names() -> list[str]:
    """List the tasks that there are."""
    return plugins.names("edgeward.tasks")


def tasks() -> list[Task]:
    """Return the tasks that there are."""
    return [task(name, "edgeward.tasks") for name in task_names()]
