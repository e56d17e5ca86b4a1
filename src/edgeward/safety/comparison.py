"""Compressed against reference on the same images: differences, endpoints, verdict."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeward.safety import paired
from edgeward.safety.config import SafetyConfig
from edgeward.safety.intervals import percentile, record, z_value
from edgeward.safety.study import SCALARS, Assessed, churn, paired_tables
from edgeward.safety.verdict import endpoint, overall

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


def _more_images(
    difference: dict[str, Any], margin: float, n: int, cfg: SafetyConfig
) -> int | None:
    """Scale the test set so that the interval's half width fits the margin with the wanted power."""
    half = (difference["high"] - difference["low"]) / 2
    if not np.isfinite(half) or half <= 0:
        return None
    z, z_power = z_value(cfg.confidence_level), z_value(2 * cfg.power - 1)
    factor = (half / z * (z + z_power) / margin) ** 2
    return int(np.ceil(n * factor)) if factor > 1 else None


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
        doubts = []
        if not row.n:
            doubts.append("the test split holds no image of it")
        elif found["high"] < cfg.evidence.reference_recall:
            doubts.append(
                f"the reference hardly finds it (recall at most {found['high']:.2f}), so there is "
                "nothing to lose and a pass would be no evidence"
            )
        needed = paired.cases_needed(
            row, pooled, cfg.margins.recall, cfg.confidence_level, cfg.power
        )
        out.append(
            endpoint(
                name=f"recall of {name}",
                metric=f"recall_{name}",
                class_name=name,
                margin=cfg.margins.recall,
                direction="higher",
                reference=found,
                compressed=after["per_class"][k]["sensitivity"],
                difference=change[f"recall_{name}"],
                n=row.n,
                n_groups=row.groups,
                doubts=doubts,
                cases_needed=needed if needed > row.n else None,
            )
        )
    absent = [name for k, name in enumerate(s.classes) if not rows[k].n]
    scarce = [
        f"{name} ({rows[k].groups})"
        for k, name in enumerate(s.classes)
        if rows[k].groups < cfg.evidence.groups_per_class
    ]
    total = s.n_groups()
    per_class = f"needed: {cfg.evidence.groups_per_class} groups of every class"
    plans = (
        ("balanced accuracy", "balanced_accuracy", cfg.margins.balanced_accuracy, "higher", False, s.scarcest,
         [f"the test split lacks {', '.join(absent)}"] if absent else []),
        ("macro AUC", "auc_macro", cfg.margins.auc, "higher", True, s.scarcest,
         [f"too few groups of {', '.join(scarce)} ({per_class})"] if scarce else []),
        ("ECE", "ece", cfg.margins.ece, "lower", True, total,
         [f"{total} groups are too few (needed: {cfg.evidence.groups})"] if total < cfg.evidence.groups else []),
    )  # fmt: skip
    for label, metric, margin, direction, resampled, groups, doubts in plans:
        out.append(
            endpoint(
                name=label,
                metric=metric,
                margin=margin,
                direction=direction,
                reference=before[metric],
                compressed=after[metric],
                difference=change[metric],
                n=len(s.labels),
                n_groups=groups,
                doubts=doubts,
                resampled=resampled,
                cases_needed=_more_images(change[metric], margin, len(s.labels), cfg),
            )
        )
    return out


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
    safety : "reference" and "compressed" -> `edgeward.safety.study.describe`.
    replicates : of both arms, from one call of `edgeward.safety.bootstrap.run`.
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
        elif row["rare"] and found["high"] < cfg.evidence.reference_recall:
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
