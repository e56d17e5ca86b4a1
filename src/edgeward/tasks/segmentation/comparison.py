"""Compressed against reference segmentation on the same cases: differences, endpoints, verdict."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeward.statistics import paired
from edgeward.statistics.intervals import percentile, record
from edgeward.statistics.noninferiority import endpoint, overall
from edgeward.tasks.multiclass.comparison import more_images
from edgeward.tasks.segmentation.arm import (
    ECES,
    SCALARS,
    SENSITIVITIES,
    DenseArm,
    Replicates,
    value,
)
from edgeward.tasks.segmentation.study import chosen, interval


def difference(
    arms: tuple[DenseArm, DenseArm],
    replicates: tuple[Replicates, Replicates],
    metric: str,
    k: int | None = None,
) -> dict[str, Any]:
    """Return compressed - reference of a metric, of class k or over the classes, as an interval record.

    Lesions found or missed are compared one by one, with a score interval; everything else by the
    paired bootstrap.

    Parameters
    ----------
    arms, replicates : of the reference and of the compressed model.
    """
    before, after = arms
    if metric in SENSITIVITIES:
        found = paired_lesions(before, after, metric, k)
        if not found.n:
            return record(np.nan, np.nan, np.nan, n=0, method="none: no such lesion")
        return found.record()
    name, place = (metric, ...) if k is None else (f"{metric}_per_class", k)
    change = value(after, metric, k) - value(before, metric, k)
    n = before.n_groups(metric, k)
    if np.isnan(change):
        return record(np.nan, np.nan, np.nan, n=0, method="none: no such case")
    low, high = percentile(
        replicates[1][name][place] - replicates[0][name][place], before.cfg.confidence_level, n
    )
    shown = interval(before, replicates[0], metric, k)["n"]
    return record(change, low, high, n=shown, method="clustered bootstrap, paired")


def paired_lesions(
    before: DenseArm, after: DenseArm, metric: str, k: int | None
) -> paired.PairedRecall:
    """Compare which lesions the two models find."""
    where = chosen(before, metric, k)
    ours = before.findings.of(where)
    found = after.findings.of(where).found
    return paired.paired_accuracy(
        ours.found, found, ours.label, ours.group, before.cfg.confidence_level
    )


def endpoints(
    arms: tuple[DenseArm, DenseArm],
    safety: tuple[dict[str, Any], dict[str, Any]],
    change: dict[str, dict[str, Any]],
) -> list[dict[str, Any]]:
    """Judge Dice (mean and per class), small lesions, and calibration (all voxels, boundary band)."""
    arm = arms[0]
    cfg, cases = arm.cfg, arm.cases
    s = cfg.segmentation
    asked = s.evidence
    few = cases.n_groups() < asked.groups
    too_few = [f"{cases.n_groups()} groups are too few, needed {asked.groups}"] if few else []
    rows = []
    for k, name in enumerate(cases.classes):
        before, after = (part["per_class"][k] for part in safety)
        doubts = []
        if not before["n"]:
            doubts.append("no test case holds it")
        elif before["n_groups"] < asked.groups:
            doubts.append(f"{before['n_groups']} groups are too few, needed {asked.groups}")
        hopeless = before["n"] and before["dice"]["high"] < asked.reference_dice
        if hopeless:
            doubts.append(
                f"the reference hardly finds it (Dice at most {before['dice']['high']:.2f}), so there "
                "is nothing to lose and a pass would be no evidence"
            )
        margin = s.margins.dice_per_class
        moved = change[f"dice_{name}"]
        rows.append(
            endpoint(
                name=f"Dice of {name}",
                metric=f"dice_{name}",
                class_name=name,
                margin=margin,
                direction="higher",
                reference=before["dice"],
                compressed=after["dice"],
                difference=moved,
                n=before["n"],
                n_groups=before["n_groups"],
                doubts=doubts,
                fewest_groups=before["n_groups"],
                cases_needed=None if hopeless else more_images(moved, margin, before["n"], cfg),
                unit="cases",
            )
        )
    if s.small_lesion is not None:
        rows.append(_small_lesions(arms, safety, change))
    absent = safety[0]["absent_classes"]
    lacks = [f"the test split lacks {', '.join(absent)}"] if absent else []
    rows += [
        endpoint(
            name=name,
            metric=metric,
            margin=margin,
            direction=direction,
            reference=safety[0][metric],
            compressed=safety[1][metric],
            difference=change[metric],
            n=len(cases.indices),
            n_groups=arm.n_groups(metric),
            doubts=too_few + (lacks if metric == "dice" else []),
            fewest_groups=arm.n_groups(metric),
            cases_needed=more_images(change[metric], margin, len(cases.indices), cfg),
            unit="cases",
        )
        for name, metric, margin, direction in (
            ("mean Dice", "dice", s.margins.dice, "higher"),
            ("ECE", "ece", s.margins.ece, "lower"),
            ("boundary ECE", "boundary_ece", s.margins.boundary_ece, "lower"),
        )
    ]
    return rows


def _small_lesions(
    arms: tuple[DenseArm, DenseArm],
    safety: tuple[dict[str, Any], dict[str, Any]],
    change: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    metric, cfg = "small_lesion_sensitivity", arms[0].cfg
    s = cfg.segmentation
    row = paired_lesions(*arms, metric, None)
    every = paired_lesions(*arms, "lesion_sensitivity", None)
    margin, found = s.margins.small_lesion_sensitivity, safety[0][metric]
    doubts, needed = [], None
    if not row.n:
        doubts.append("the test split holds no small lesion")
    elif found["high"] < s.evidence.reference_dice:
        doubts.append(
            f"the reference hardly finds any (at most {found['high']:.2f} of them), so there is nothing "
            "to lose and a pass would be no evidence"
        )
    if row.n and not doubts:
        discordance = (every.gained + every.lost) / every.n
        needed = paired.cases_needed(row, discordance, margin, cfg.confidence_level, cfg.power)
    return endpoint(
        name="sensitivity to small lesions",
        metric=metric,
        margin=margin,
        direction="higher",
        reference=found,
        compressed=safety[1][metric],
        difference=change[metric],
        n=row.n,
        n_groups=row.groups,
        doubts=doubts,
        cases_needed=needed,
        unit="small lesions",
    )


def compare(
    arms: tuple[DenseArm, DenseArm],
    replicates: tuple[Replicates, Replicates],
    safety: tuple[dict[str, Any], dict[str, Any]],
    changed: dict[str, Any],
) -> dict[str, Any]:
    """Return what ``verdict.json`` holds of a compressed model.

    Parameters
    ----------
    arms, replicates, safety : of the reference and of the compressed model, on the same cases.
    changed : from `churn`.
    """
    before, after = arms
    cfg, classes = before.cfg, before.cases.classes
    change = {metric: difference(arms, replicates, metric) for metric in SCALARS}
    for k, name in enumerate(classes):
        for metric in SCALARS:
            if metric not in ECES:
                change[f"{metric}_{name}"] = difference(arms, replicates, metric, k)
    judged = endpoints(arms, safety, change)
    verdict, reasons = overall(judged)
    lesions = [paired_lesions(before, after, "lesion_sensitivity", k) for k in range(len(classes))]
    p = np.array([paired.mcnemar_exact(row.lost, row.gained) for row in lesions])
    adjusted = paired.holm(p)
    return {
        "reference": cfg.reference,
        "verdict": verdict,
        "reasons": reasons,
        "churn": changed,
        "endpoints": judged,
        "differences": change,
        "per_class": [
            {
                "class": name, "n": row.n, "gained": row.gained, "lost": row.lost,
                "mcnemar_p": p[k], "mcnemar_p_holm": adjusted[k],
                "difference": change[f"dice_{name}"],
            }
            for k, (name, row) in enumerate(zip(classes, lesions, strict=True))
        ],
        "bootstrap": bootstrap_facts(before),
    }  # fmt: skip


def reference_verdict(arm: DenseArm, safety: dict[str, Any]) -> dict[str, Any]:
    """Return what ``verdict.json`` holds of the reference itself, with what it cannot be evidence for."""
    cfg = arm.cfg
    reasons = [f"This is {cfg.reference}, which the others are compared with."]
    for row in safety["per_class"]:
        if not row["n"]:
            reasons.append(f"No test case holds {row['class']}.")
        elif row["dice"]["high"] < cfg.segmentation.evidence.reference_dice:
            reasons.append(
                f"It hardly finds {row['class']}: Dice {row['dice']['estimate']:.3f}, at most "
                f"{row['dice']['high']:.3f}; no compression can lose much there."
            )
    return {
        "reference": cfg.reference,
        "verdict": "reference",
        "reasons": reasons,
        "churn": None,
        "endpoints": [],
        "differences": {},
        "per_class": [],
        "bootstrap": bootstrap_facts(arm),
    }


def bootstrap_facts(arm: DenseArm) -> dict[str, Any]:
    """Return how the resamples were drawn."""
    cfg = arm.cfg
    return {
        "resamples": cfg.resamples,
        "seed": cfg.seed,
        "unit": "group",
        "strata": "rarest stratum of the group",
        "groups": arm.cases.n_groups(),
        "confidence_level": cfg.confidence_level,
    }
