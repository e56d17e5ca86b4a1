"""A model described, and compared with the reference on the same cases: endpoints and verdict."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from edgeward.records.base import Interval
from edgeward.records.safety import (
    Bootstrap,
    ClassChange,
    ClassRow,
    Decision,
    Loss,
    Safety,
    Verdict,
)
from edgeward.safety import strata
from edgeward.safety.config import StudyConfig
from edgeward.safety.judging import judged_on
from edgeward.safety.shift import Shift
from edgeward.safety.shift import compare as compare_shifts
from edgeward.statistics import folds, paired
from edgeward.statistics.bootstrap import resample, resample_mean
from edgeward.statistics.clusters import pooled_correlation
from edgeward.statistics.intervals import percentile
from edgeward.statistics.noninferiority import overall
from edgeward.statistics.proportions import proportion
from edgeward.tasks.assessment import (
    Arm,
    Intervals,
    Key,
    Replicates,
    Share,
    difference,
    interval,
)
from edgeward.tasks.base import Task


def assess(
    model: Arm,
    reference: Arm | None,
    cfg: StudyConfig,
    *,
    shift: np.ndarray | None = None,
    test_sha256: str = "",
    shifted: Mapping[Shift, tuple[Arm, Arm]] | None = None,
) -> tuple[Safety, Verdict]:
    """Describe a model, and compare it with the reference on the same cases.

    Parameters
    ----------
    reference : None if the model is the reference.
    shift, test_sha256 : for the record.
    shifted : reference and compressed model on corrupted copies.
    """
    arms = (
        {"compressed": model}
        if reference is None
        else {"compressed": model, "reference": reference}
    )
    cases = model.cases
    replicates = resample(arms, model.strata, cases.groups, cfg.resamples, cfg.seed)
    level = cfg.confidence_level
    found = {
        name: {key: interval(arm, key, replicates[name], level) for key in arm.keys}
        for name, arm in arms.items()
    }
    safety = Safety(
        format=Safety.FORMAT,
        task=model.task.name,
        n={"test": len(cases), "groups": cases.n_groups(), **model.counts},
        classes=cases.classes,
        rare_classes=cases.rare_classes,
        critical_classes=model.critical,
        absent_classes=[name for k, name in enumerate(cases.classes) if not model.has(k).any()],
        confidence_level=level,
        metrics={m.name: found["compressed"][Key(m.name)] for m in model.task.metrics},
        per_class=[_class_row(model, k, found["compressed"]) for k in range(len(cases.classes))],
        reliability=model.reliability(replicates["compressed"], level),
        selective=model.selective(),
        curves=model.curves(),
        confusion=model.confusion.tolist(),
        labels=model.labels,
        facts=model.facts,
        logit_shift=[0.0] * (len(cases.classes) + model.task.dense)
        if shift is None
        else shift.tolist(),
        test_sha256=test_sha256,
        measured=model.measured(model.cfg),
    )
    if reference is None:
        return safety, _of_reference(model, found["compressed"], cfg)
    both = replicates["reference"], replicates["compressed"]
    intervals = found["reference"], found["compressed"]
    return safety, compare(reference, model, both, intervals, cfg, shifted or {})


def _class_row(arm: Arm, k: int, found: Intervals) -> ClassRow:
    name = arm.cases.classes[k]
    return ClassRow(
        name=name,
        n=int(arm.has(k).sum()),
        n_groups=arm.cases.n_groups(arm.has(k)),
        rare=name in arm.cases.rare_classes,
        critical=name in arm.critical,
        counts=arm.class_counts(k),
        metrics={m.name: found[Key(m.name, name)] for m in arm.task.class_metrics},
    )


def compare(
    reference: Arm,
    compressed: Arm,
    replicates: tuple[Replicates, Replicates],
    found: tuple[Intervals, Intervals],
    cfg: StudyConfig,
    shifted: Mapping[Shift, tuple[Arm, Arm]],
) -> Verdict:
    """Return the verdict on a compressed model.

    Parameters
    ----------
    replicates, found : of the reference and of the compressed model, on the same resamples.
    """
    task, classes, level = reference.task, reference.cases.classes, cfg.confidence_level
    compared = {None: task.metrics} | dict.fromkeys(
        classes, tuple(m for m in task.class_metrics if m.compared)
    )
    change = {
        key: difference(reference, compressed, key, replicates, level)
        for key in (Key(m.name, subset) for subset, metrics in compared.items() for m in metrics)
    }
    rows = []
    for endpoint in reference.endpoints(found[0]):
        key = Key(endpoint.metric, endpoint.subset)
        three = found[0][key], found[1][key], change[key]
        rows.append(judged_on(endpoint, key, (reference, compressed), three, cfg))
    units = _units(reference, compressed, level)
    subgroups = strata.compare(reference, compressed, cfg)
    rows += subgroups.endpoints
    subsets = {row.class_name for row in rows}
    outside = also_lost(task, units, subsets, found, change, subgroups, level)
    verdict, reasons = overall(rows)
    return Verdict(
        format=Verdict.FORMAT,
        reference=cfg.reference,
        verdict=verdict,
        reasons=reasons,
        churn=churn(reference, compressed, cfg),
        endpoints=rows,
        also_lost=outside,
        differences={str(key): row for key, row in change.items()},
        per_class=_class_changes(task, units, change),
        decisions=_causes(reference, compressed, change, level),
        strata=subgroups.rows,
        interactions=subgroups.interactions,
        corruptions=compare_shifts((reference, compressed), shifted, cfg),
        bootstrap=_bootstrap(reference, cfg),
    )


def _causes(reference: Arm, compressed: Arm, change: Intervals, level: float) -> list[Decision]:
    aligned = compressed.aligned(reference)
    return (
        []
        if aligned is None
        else type(reference).causes(reference, compressed, aligned, change, level)
    )


def _units(reference: Arm, compressed: Arm, level: float) -> dict[str, paired.PairedShare]:
    """Return what the task counts (`Task.gained`) of each class, compared unit by unit."""
    found = {}
    for name in reference.cases.classes:
        key = Key(reference.task.gained, name)
        before, after = reference.basis(key), compressed.basis(key)
        assert isinstance(before, Share)
        assert isinstance(after, Share)
        found[name] = before.against(after, level)
    return found


def also_lost(
    task: Task,
    units: Mapping[str, paired.PairedShare],
    judged_subsets: Collection[str | None],
    found: tuple[Intervals, Intervals],
    change: Intervals,
    subgroups: strata.Compared,
    level: float,
) -> list[Loss]:
    """Return the losses beyond chance outside the endpoints, largest first.

    Of each class that no endpoint looks at, what the task counts (`Task.gained`) is tested unit by unit, and of each subgroup
    the first of its metrics, if that is a share (McNemar's exact test, counts divided by the design effect), two-sided, and
    corrected over all of them by Holm's method at the level of the intervals. Over folds the larger p value counts, of that test and of
    Student's t over the folds: what one training loses is not what the recipe loses.

    Parameters
    ----------
    units : of each class.
    judged_subsets : those of the endpoints.
    found, change : intervals of both models, and of their differences.
    """
    rows: list[tuple[str, Key, paired.PairedShare, tuple[Interval, Interval, Interval]]] = []
    for name, share in units.items():
        key = Key(task.gained, name)
        if name not in judged_subsets and share.n:
            three = found[0][key], found[1][key], change.get(key, share.interval)
            rows.append((name, key, share, three))
    for name, key, share, row in subgroups.shares:
        if name not in judged_subsets and row.enough:
            of = str(key)
            three = row.reference[of], row.compressed[of], row.differences[of]
            rows.append((name, key, share, three))
    if not rows:
        return []
    adjusted = paired.holm(
        np.array([max(share.p_value, folds.p_value(three[2])) for _, _, share, three in rows])
    )
    lost = [
        Loss(
            name=f"{task.metric(key.metric).label} of {name}",
            metric=str(key),
            subset=name,
            n=share.n,
            reference=before,
            compressed=after,
            difference=difference,
            p_holm=float(p),
        )
        for (name, key, share, (before, after, difference)), p in zip(rows, adjusted, strict=True)
        if p < 1 - level and share.lost > share.gained
    ]
    return sorted(lost, key=lambda loss: loss.difference.estimate or 0.0)


def churn(reference: Arm, compressed: Arm, cfg: StudyConfig) -> Interval:
    """Return the share of decisions that the two models take differently, mean over cases."""
    differs, cases, level = reference.changed(compressed), reference.cases, cfg.confidence_level
    if differs.dtype == bool:
        pooled = pooled_correlation(differs.astype(float), cases.labels, cases.groups)
        return proportion(differs, cases.groups, pooled, level)
    drawn = resample_mean(differs, reference.strata, cases.groups, cfg.resamples, cfg.seed)
    low, high = percentile(drawn, level, cases.n_groups())
    mean = float(differs.mean())
    return Interval.of(mean, low, high, n=len(differs), method="clustered bootstrap")


def _class_changes(
    task: Task, units: Mapping[str, paired.PairedShare], change: Intervals
) -> list[ClassChange]:
    rows = units.values()
    p = np.array([row.p_value for row in rows])
    return [
        ClassChange(
            name=name,
            n=row.n,
            gained=row.gained,
            lost=row.lost,
            mcnemar_p=alone,
            mcnemar_p_holm=adjusted,
            difference=change[Key(task.class_difference, name)],
        )
        for name, row, alone, adjusted in zip(units, rows, p, paired.holm(p), strict=True)
    ]


def _of_reference(model: Arm, found: Intervals, cfg: StudyConfig) -> Verdict:
    """Return the verdict on the reference itself, with what it cannot be evidence for."""
    reasons = [f"This is {cfg.reference}, which the others are compared with."]
    for e in model.endpoints(found):
        if e.hopeless or not e.n:
            reasons.append(f"{e.name}: {'; '.join(e.doubts)}.")
    return Verdict(
        format=Verdict.FORMAT,
        reference=cfg.reference,
        verdict="reference",
        reasons=reasons,
        churn=None,
        endpoints=[],
        differences={},
        per_class=[],
        bootstrap=_bootstrap(model, cfg),
    )


def _bootstrap(arm: Arm, cfg: StudyConfig) -> Bootstrap:
    return Bootstrap(
        resamples=cfg.resamples,
        seed=cfg.seed,
        unit="group",
        strata="rarest stratum of the group",
        groups=arm.cases.n_groups(),
        confidence_level=cfg.confidence_level,
    )
