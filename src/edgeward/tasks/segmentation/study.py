"""The description of a segmentation model on a test set: every metric with its interval."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeward.statistics.clusters import pooled_correlation
from edgeward.statistics.intervals import percentile, record
from edgeward.tasks.multiclass.study import proportion
from edgeward.tasks.segmentation.arm import (
    ECES,
    SCALARS,
    SENSITIVITIES,
    DenseArm,
    Replicates,
    value,
)
from edgeward.tasks.segmentation.tables import REGIONS


def interval(
    arm: DenseArm, replicates: Replicates, metric: str, k: int | None = None
) -> dict[str, Any]:
    """Return the interval record of a metric, of class k or over the classes."""
    level = arm.cfg.confidence_level
    if metric in SENSITIVITIES:
        return _sensitivity(arm, metric, k, level)
    name, place = (metric, ...) if k is None else (f"{metric}_per_class", k)
    estimate, n = value(arm, metric, k), arm.n_groups(metric, k)
    if np.isnan(estimate):
        return record(np.nan, np.nan, np.nan, n=0, method="none: no such case")
    low, high = percentile(replicates[name][place], level, n)
    return record(
        estimate, low, high, n=_cases_behind(arm, metric, k), method="clustered bootstrap"
    )


def _cases_behind(arm: DenseArm, metric: str, k: int | None) -> int:
    if metric in ECES:
        return len(arm.cases.indices)
    has = arm._ratios[metric][1] > 0
    return int((has.any(axis=1) if k is None else has[:, k]).sum())


def chosen(arm: DenseArm, metric: str, k: int | None) -> np.ndarray:
    """Return the lesions behind a sensitivity, bool (m,)."""
    where = arm.small if metric == "small_lesion_sensitivity" else np.ones_like(arm.findings.found)
    return where if k is None else where & (arm.findings.label == k)


def _sensitivity(arm: DenseArm, metric: str, k: int | None, level: float) -> dict[str, Any]:
    found = arm.findings.of(chosen(arm, metric, k))
    if not len(found.found):
        return record(np.nan, np.nan, np.nan, n=0, method="none: no such lesion")
    everything = arm.findings
    pooled = pooled_correlation(everything.found.astype(float), everything.label, everything.group)
    return proportion(found.found, found.group, pooled, level)


def describe(arm: DenseArm, replicates: Replicates) -> dict[str, Any]:
    """Return what ``safety.json`` holds of one model, less what only the stage knows."""
    cases, classes = arm.cases, arm.cases.classes
    has = np.asarray(arm.present.any(axis=0))
    return {
        "task": "segmentation",
        "classes": classes,
        "rare_classes": cases.rare_classes,
        "absent_classes": [name for name, there in zip(classes, has, strict=True) if not there],
        "confidence_level": arm.cfg.confidence_level,
        **{metric: interval(arm, replicates, metric) for metric in SCALARS},
        "per_class": [
            {
                "class": name,
                "n": int(arm.present[:, k].sum()),
                "n_groups": cases.n_groups(arm.present[:, k]),
                "rare": name in cases.rare_classes,
                "lesions": int(chosen(arm, "lesion_sensitivity", k).sum()),
                "small_lesions": int(chosen(arm, "small_lesion_sensitivity", k).sum()),
                **{
                    metric: interval(arm, replicates, metric, k)
                    for metric in SCALARS
                    if metric not in ECES
                },
            }
            for k, name in enumerate(classes)
        ],
        "reliability": reliability(arm, replicates, "all"),
        "boundary_reliability": reliability(arm, replicates, "boundary"),
        "confusion": arm.tables.confusion,
    }


def reliability(arm: DenseArm, replicates: Replicates, region: str) -> dict[str, list[float]]:
    """Return the reliability diagram of a region over the bins that hold voxels."""
    r = REGIONS.index(region)
    sums = arm.sums[:, r].sum(axis=0)
    n = arm.cases.n_groups()
    out: dict[str, list[float]] = {
        "confidence": [], "accuracy": [], "low": [], "high": [], "count": [],
    }  # fmt: skip
    for b, (count, confidence, correct) in enumerate(sums):
        if not count:
            continue
        low, high = percentile(replicates["accuracy_per_bin"][r, b], arm.cfg.confidence_level, n)
        out["confidence"].append(float(confidence / count))
        out["accuracy"].append(float(correct / count))
        out["low"].append(low)
        out["high"].append(high)
        out["count"].append(int(count))
    return out


def churn(
    labels: tuple[np.ndarray, np.ndarray], sizes: np.ndarray, arm: DenseArm
) -> dict[str, Any]:
    """Return the share of voxels that the two models label differently, averaged over cases.

    Parameters
    ----------
    labels : uint8, flat label maps of all cases, of both models.
    sizes : int64 (n,), voxels of each case.
    """
    ends = np.cumsum(sizes)
    counts = np.add.reduceat(labels[0] != labels[1], np.r_[0, ends[:-1]], dtype=np.int64)
    share = counts / sizes
    weights = [w.T @ share / w.sum(axis=0) for w in arm.resample_weights()]
    low, high = percentile(np.concatenate(weights), arm.cfg.confidence_level, arm.cases.n_groups())
    return record(float(share.mean()), low, high, n=len(sizes), method="clustered bootstrap")
