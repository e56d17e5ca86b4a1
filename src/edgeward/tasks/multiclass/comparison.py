"""Compressed against reference on the same images: differences, endpoints, verdict."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeward.safety.config import SafetyConfig, StudyConfig
from edgeward.statistics import paired
from edgeward.statistics.intervals import percentile, record, z_value
from edgeward.statistics.noninferiority import endpoint, overall
from edgeward.tasks.multiclass.study import SCALARS, Assessed, Sample, churn, paired_tables

Replicates = dict[str, dict[str, np.ndarray]]


def differences(
    safety: dict[str, dict[str, Any]],
    replicates: Replicates,
    rows: list[paired.PairedRecall],
    accuracy: paired.PairedRecall,
    model: Assessed,
    level: float,
) -> dict[str, dict[str, Any]]:
    """Return every metric's difference, compressed - reference, as interval records.

    Decisions (recall, accuracy and their means) get score intervals, with the bootstrap's limits beside
    them in `bootstrap`; everything else the bootstrap alone.
    """
    s = model.sample
    after, before = replicates["compressed"], replicates["reference"]
    scored = {
        "accuracy": accuracy.record(),
        "balanced_accuracy": paired.mean_difference(rows),
        "rare_recall": paired.mean_difference([rows[k] for k in s.rare]),
    }
    out: dict[str, dict[str, Any]] = {}
    for metric in SCALARS:
        n = (
            s.scarcest
            if metric in ("auc_macro", "balanced_accuracy", "rare_recall")
            else s.n_groups()
        )
        low, high = percentile(after[metric] - before[metric], level, n)
        if metric in scored:
            out[metric] = {**scored[metric], "bootstrap": [low, high]}
        else:
            change = (
                safety["compressed"][metric]["estimate"] - safety["reference"][metric]["estimate"]
            )
            out[metric] = record(
                change, low, high, n=len(s.labels), method="clustered bootstrap, paired"
            )
    for k, name in enumerate(s.classes):
        limits = percentile(after["recall"][k] - before["recall"][k], level, s.n_groups(k))
        out[f"recall_{name}"] = {**rows[k].record(), "bootstrap": list(limits)}
    return out


def more_images(difference: dict[str, Any], margin: float, n: int, cfg: StudyConfig) -> int | None:
    """Scale the test set so that the interval's half width fits the margin with the wanted power."""
    half = (difference["high"] - difference["low"]) / 2
    if not np.isfinite(half) or half <= 0:
        return None
    z, z_power = z_value(cfg.confidence_level), z_value(2 * cfg.power - 1)
    factor = (half / z * (z + z_power) / margin) ** 2
    return int(np.ceil(n * factor))


def endpoints(
    safety: dict[str, dict[str, Any]],
    change: dict[str, dict[str, Any]],
    rows: list[paired.PairedRecall],
    model: Assessed,
    cfg: SafetyConfig,
) -> list[dict[str, Any]]:
    """Judge recall of each rare class, balanced accuracy, macro AUC and ECE."""
    s, out = model.sample, []
    before, after = safety["reference"], safety["compressed"]
    pooled = sum(r.gained + r.lost for r in rows) / len(s.labels)
    for k in s.rare:
        name, row = s.classes[k], rows[k]
        found = before["per_class"][k]["sensitivity"]
        doubts: list[str] = []
        needed: int | None = paired.cases_needed(
            row, pooled, cfg.multiclass.margins.recall, cfg.confidence_level, cfg.power
        )
        if not row.n:
            doubts.append("the test split holds no image of it")
        elif found["high"] < cfg.multiclass.evidence.reference_recall:
            doubts.append(
                f"the reference hardly finds it (recall at most {found['high']:.2f}), so there is "
                "nothing to lose and a pass would be no evidence"
            )
            needed = None  # more cases of it would not help
        out.append(
            endpoint(
                name=f"recall of {name}",
                metric=f"recall_{name}",
                class_name=name,
                margin=cfg.multiclass.margins.recall,
                direction="higher",
                reference=found,
                compressed=after["per_class"][k]["sensitivity"],
                difference=change[f"recall_{name}"],
                n=row.n,
                n_groups=row.groups,
                doubts=doubts,
                cases_needed=needed,
            )
        )
    return [*out, *_whole_set_endpoints(safety, change, rows, s, cfg)]


def _whole_set_endpoints(
    safety: dict[str, dict[str, Any]],
    change: dict[str, dict[str, Any]],
    rows: list[paired.PairedRecall],
    s: Sample,
    cfg: SafetyConfig,
) -> list[dict[str, Any]]:
    n, total, asked = len(s.labels), s.n_groups(), cfg.multiclass.evidence
    groups = {name: row.groups for name, row in zip(s.classes, rows, strict=True)}
    absent = [name for name, g in groups.items() if g == 0]
    scarce = [f"{name} ({g})" for name, g in groups.items() if g < asked.groups_per_class]
    doubts: dict[str, list[str]] = {"balanced_accuracy": [], "auc_macro": [], "ece": []}
    if absent:
        doubts["balanced_accuracy"].append(f"the test split lacks {', '.join(absent)}")
    if scarce:
        doubts["auc_macro"].append(
            f"too few groups of {', '.join(scarce)}, needed {asked.groups_per_class} of every class"
        )
    if total < asked.groups:
        doubts["ece"].append(f"{total} groups are too few, needed {asked.groups}")
    margins = cfg.multiclass.margins
    return [
        endpoint(
            name=name,
            metric=metric,
            margin=margin,
            direction=direction,
            reference=safety["reference"][metric],
            compressed=safety["compressed"][metric],
            difference=change[metric],
            n=n,
            n_groups=total,
            doubts=doubts[metric],
            fewest_groups=fewest,
            cases_needed=more_images(change[metric], margin, n, cfg),
        )
        for name, metric, margin, direction, fewest in (
            ("balanced accuracy", "balanced_accuracy", margins.balanced_accuracy, "higher", None),
            ("macro AUC", "auc_macro", margins.auc, "higher", s.scarcest),
            ("ECE", "ece", margins.ece, "lower", total),
        )
    ]


def compare(
    reference: Assessed,
    compressed: Assessed,
    safety: dict[str, dict[str, Any]],
    replicates: Replicates,
    cfg: SafetyConfig,
) -> dict[str, Any]:
    """Return what ``verdict.json`` holds of a compressed model.

    Parameters
    ----------
    reference, compressed : both on the same sample.
    safety : "reference" and "compressed" -> `edgeward.tasks.multiclass.study.describe`.
    replicates : of both arms, from one call of `edgeward.tasks.multiclass.arm.run`.
    """
    level = cfg.confidence_level
    rows, accuracy = paired_tables(reference, compressed, level)
    change = differences(safety, replicates, rows, accuracy, reference, level)
    judged = endpoints(safety, change, rows, reference, cfg)
    verdict, reasons = overall(judged)
    p = np.array([paired.mcnemar_exact(r.lost, r.gained) for r in rows])
    adjusted = paired.holm(p)
    return {
        "reference": cfg.reference,
        "verdict": verdict,
        "reasons": reasons,
        "churn": churn(reference, compressed, level),
        "endpoints": judged,
        "differences": change,
        "per_class": [
            {
                "class": name, "n": row.n, "gained": row.gained, "lost": row.lost,
                "mcnemar_p": p[k], "mcnemar_p_holm": adjusted[k],
                "difference": change[f"recall_{name}"],
            }
            for k, (name, row) in enumerate(zip(reference.sample.classes, rows, strict=True))
        ],
        "bootstrap": bootstrap_facts(reference, cfg),
    }  # fmt: skip


def reference_verdict(model: Assessed, safety: dict[str, Any], cfg: SafetyConfig) -> dict[str, Any]:
    """Return what ``verdict.json`` holds of the reference itself, with what it cannot be evidence for."""
    reasons = [f"This is {cfg.reference}, which the others are compared with."]
    for row in safety["per_class"]:
        found = row["sensitivity"]
        if row["rare"] and not row["n"]:
            reasons.append(f"The test split holds no image of {row['class']}.")
        elif row["rare"] and found["high"] < cfg.multiclass.evidence.reference_recall:
            reasons.append(
                f"It hardly finds {row['class']}: recall {found['estimate']:.3f}, at most "
                f"{found['high']:.3f}; no compression can lose much there."
            )
    return {
        "reference": cfg.reference,
        "verdict": "reference",
        "reasons": reasons,
        "churn": None,
        "endpoints": [],
        "differences": {},
        "per_class": [],
        "bootstrap": bootstrap_facts(model, cfg),
    }


def bootstrap_facts(model: Assessed, cfg: SafetyConfig) -> dict[str, Any]:
    """Return how the resamples were drawn."""
    return {
        "resamples": cfg.resamples,
        "seed": cfg.seed,
        "unit": "group",
        "strata": "rarest class of the group",
        "groups": model.sample.n_groups(),
        "confidence_level": cfg.confidence_level,
    }
