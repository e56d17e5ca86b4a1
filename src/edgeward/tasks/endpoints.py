"""What tasks ask of compressed models that call classes: recall and coverage class by class, and means over the classes."""

from __future__ import annotations

from collections.abc import Sequence

from edgeward.core.errors import unknown
from edgeward.records.base import Interval
from edgeward.statistics.noninferiority import Endpoint
from edgeward.tasks.assessment import Arm, Intervals, Key, Share


def of_classes(reference: Arm, found: Intervals) -> list[Endpoint]:
    """Return recall of each rare, critical or named class, its floors, and coverage by prediction sets.

    Parameters
    ----------
    reference : of a task with the class metrics ``recall`` and ``set_coverage``; its section of the configuration has ``critical``,
        ``floors`` and, under ``margins``, ``recall``, ``critical``, ``of_class`` and ``coverage``. found : its intervals.
    """
    cases, cfg, margins = reference.cases, reference.cfg, reference.cfg.margins
    for key, names in (
        ("critical", cfg.critical),
        ("margins.of_class", margins.of_class),
        ("floors", cfg.floors),
    ):
        for name in names:
            if name not in cases.classes:
                where = f"safety.{reference.task.name}.{key}"
                raise unknown("class", name, cases.classes, where)
    every = getattr(margins, "each", None)
    margin_of = {} if every is None else dict.fromkeys(cases.classes, every)
    margin_of |= dict.fromkeys(cases.rare_classes, margins.recall)
    margin_of |= dict.fromkeys(reference.critical, margins.critical) | margins.of_class
    asked = [name for name in cases.classes if name in margin_of]
    out = [_recall(reference, name, found, margin=margin_of[name]) for name in asked]
    out += [
        _recall(reference, name, found, floor=cfg.floors[name])
        for name in cases.classes
        if name in cfg.floors
    ]
    if margins.coverage is not None:
        out += [_coverage(reference, name, margins.coverage) for name in asked]
    return out


def of_all(reference: Arm, asked: Sequence[tuple[str, str, float]]) -> list[Endpoint]:
    """Return means over the classes, and calibration.

    Parameters
    ----------
    asked : name in a sentence, metric and margin of each. Means of ranks (AUC, average precision) need
        ``evidence.groups_per_class`` groups of every class, "ece" ``evidence.groups`` in all.
    """
    cases, evidence, task = reference.cases, reference.cfg.evidence, reference.task
    groups = {
        name: cases.n_groups(reference.has(k)) for k, name in enumerate(cases.classes)
    }  # of each class
    absent = [name for name, g in groups.items() if g == 0]
    scarce = [f"{name} ({g})" for name, g in groups.items() if g < evidence.groups_per_class]
    total = cases.n_groups()
    lacks = f"the test split lacks {', '.join(absent)}" if absent else ""
    few = (
        f"too few groups of {', '.join(scarce)}, needed {evidence.groups_per_class} of every class"
        if scarce
        else ""
    )
    small = (
        f"{total} groups are too few, needed {evidence.groups}" if total < evidence.groups else ""
    )
    doubts = {"balanced_accuracy": lacks, "ece": small}
    out = []
    for name, metric, margin in asked:
        doubt = doubts.get(metric, few)
        better = task.metric(metric).better
        why = (doubt,) if doubt else ()
        out.append(
            Endpoint(name, metric, margin, better, len(cases), total, doubts=why, unit="images")
        )
    return out


def _coverage(arm: Arm, name: str, margin: float) -> Endpoint:
    share = arm.basis(Key("set_coverage", name))
    assert isinstance(share, Share)
    doubts = () if share.n else ("the test split holds no image of it",)
    return Endpoint(
        f"coverage of {name} by prediction sets", "set_coverage", margin, "higher", share.n,
        share.groups, name, doubts, unit="images",
    )  # fmt: skip


def _recall(
    arm: Arm, name: str, intervals: Intervals, margin: float = 0.0, floor: float | None = None
) -> Endpoint:
    key = Key("recall", name)
    share, found = arm.basis(key), intervals[key]
    assert isinstance(share, Share)
    doubts: tuple[str, ...] = ()
    hopeless = False
    if not share.n:
        doubts = ("the test split holds no image of it",)
    elif floor is None and _hardly(found, arm.cfg.evidence.reference_recall):
        hopeless = True
        doubts = (
            f"the reference hardly finds it (recall at most {found.high:.2f}), so there is "
            "nothing to lose and a pass would be no evidence",
        )
    return Endpoint(
        f"recall of {name}" if floor is None else f"least recall of {name}", "recall", margin,
        "higher", share.n, share.groups, name, doubts, hopeless, "images", floor,
    )  # fmt: skip


def _hardly(found: Interval, least: float) -> bool:
    return found.high is not None and found.high < least
