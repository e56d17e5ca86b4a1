"""What is asked of compressed models that decide for one of several classes."""

from __future__ import annotations

from edgeward.core.errors import unknown
from edgeward.records.base import Interval
from edgeward.statistics.noninferiority import Endpoint
from edgeward.tasks.assessment import Arm, Intervals, Key, Share
from edgeward.tasks.multiclass.task import TASK


def endpoints(reference: Arm, found: Intervals) -> list[Endpoint]:
    """Return recall of each rare and each critical class, balanced accuracy, macro AUC and ECE, and floors of recall."""
    cases, margins, asked = reference.cases, reference.cfg.margins, reference.cfg.evidence
    for key, names in (
        ("critical", reference.cfg.critical),
        ("margins.of_class", margins.of_class),
        ("floors", reference.cfg.floors),
    ):
        for name in names:
            if name not in cases.classes:
                raise unknown("class", name, cases.classes, f"safety.multiclass.{key}")
    margin_of = dict.fromkeys(cases.rare_classes, margins.recall)
    margin_of |= dict.fromkeys(reference.critical, margins.critical) | margins.of_class
    out = [
        _recall(reference, name, found[Key("recall", name)], margin=margin_of[name])
        for name in cases.classes
        if name in margin_of
    ]
    out += [
        _recall(reference, name, found[Key("recall", name)], floor=reference.cfg.floors[name])
        for name in cases.classes
        if name in reference.cfg.floors
    ]
    if margins.coverage is not None:
        out += [
            _coverage(reference, name, margins.coverage)
            for name in cases.classes
            if name in margin_of
        ]
    groups = {
        name: cases.n_groups(reference.has(k)) for k, name in enumerate(cases.classes)
    }  # of each class
    absent = [name for name, g in groups.items() if g == 0]
    scarce = [f"{name} ({g})" for name, g in groups.items() if g < asked.groups_per_class]
    total = cases.n_groups()
    doubts = {
        "balanced_accuracy": f"the test split lacks {', '.join(absent)}" if absent else "",
        "auc_macro": f"too few groups of {', '.join(scarce)}, needed {asked.groups_per_class} of every class"
        if scarce
        else "",
        "ece": f"{total} groups are too few, needed {asked.groups}" if total < asked.groups else "",
    }
    for name, metric, margin in (
        ("balanced accuracy", "balanced_accuracy", margins.balanced_accuracy),
        ("macro AUC", "auc_macro", margins.auc),
        ("RMS-ECE", "ece", margins.ece),
    ):
        doubt = (doubts[metric],) if doubts[metric] else ()
        better = TASK.metric(metric).better
        out.append(
            Endpoint(name, metric, margin, better, len(cases), total, doubts=doubt, unit="images")
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
    arm: Arm, name: str, found: Interval, margin: float = 0.0, floor: float | None = None
) -> Endpoint:
    share = arm.basis(Key("recall", name))
    assert isinstance(share, Share)
    doubts: tuple[str, ...] = ()
    hopeless = False
    if not share.n:
        doubts = ("the test split holds no image of it",)
    elif (
        floor is None and found.high is not None and found.high < arm.cfg.evidence.reference_recall
    ):
        hopeless = True
        doubts = (
            f"the reference hardly finds it (recall at most {found.high:.2f}), so there is "
            "nothing to lose and a pass would be no evidence",
        )
    return Endpoint(
        f"recall of {name}" if floor is None else f"least recall of {name}", "recall", margin,
        "higher", share.n, share.groups, name, doubts, hopeless, "images", floor,
    )  # fmt: skip
