"""The assessment of arrays: no files, no inference, so that any study can reuse it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.safety.config import SafetyConfig
from edgeward.statistics import calibration, paired
from edgeward.statistics.clusters import design_effect, pooled_correlation
from edgeward.statistics.intervals import mover, percentile, record, wilson
from edgeward.tasks.multiclass import arm as bootstrap
from edgeward.tasks.multiclass.arm import Arm
from edgeward.tasks.multiclass.scores import Scores, fit_temperature, natural_logits, score

SCALARS = (
    "auc_macro", "accuracy", "balanced_accuracy", "rare_recall", "nll", "brier", "ece", "ece_15bin",
    "smooth_ece", "ece_temperature_scaled",
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """The labelled test images: labels and groups int (n,), class names, and which are rare."""

    labels: np.ndarray
    groups: np.ndarray
    classes: list[str]
    rare_classes: list[str]

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.groups):
            raise UserError(f"{len(self.labels)} labels, but {len(self.groups)} groups.")
        strange = [name for name in self.rare_classes if name not in self.classes]
        if strange:
            raise UserError(f"rare_classes names {strange}, which are not among {self.classes}.")

    @property
    def rare(self) -> np.ndarray:
        """Numbers of the rare classes."""
        return np.array([self.classes.index(name) for name in self.rare_classes], dtype=np.int64)

    def n_groups(self, k: int | None = None) -> int:
        """Return the number of groups, or of those with an image of class k."""
        return len(np.unique(self.groups if k is None else self.groups[self.labels == k]))

    @property
    def scarcest(self) -> int:
        """Groups of the class with fewest, among the classes that are there."""
        return min(self.n_groups(k) for k in np.unique(self.labels))


@dataclass(frozen=True)
class Assessed:
    """A model on a sample: what is needed to report it and to compare it."""

    sample: Sample
    scores: Scores
    arm: Arm
    temperature: float


def evaluate(
    logits: np.ndarray,
    sample: Sample,
    logit_shift: np.ndarray,
    temperature: float,
    cfg: SafetyConfig,
) -> Assessed:
    """Score a model on a sample; shapes as for `edgeward.tasks.multiclass.scores.score`."""
    scores = score(logits, sample.labels, logit_shift, temperature)
    if logits.shape[1] != len(sample.classes):
        raise UserError(f"Logits of {logits.shape[1]} classes; the data has {sample.classes}.")
    arm = Arm(
        scores,
        sample.labels,
        sample.groups,
        len(sample.classes),
        sample.rare,
        cfg.multiclass.ece_bins,
    )
    return Assessed(sample, scores, arm, temperature)


def temperature_of(
    val_logits: np.ndarray, val_labels: np.ndarray, logit_shift: np.ndarray
) -> float:
    """Fit the temperature on the validation split: float (n, c), int (n,), float (c,)."""
    return fit_temperature(natural_logits(val_logits, logit_shift), val_labels)


def proportion(hit: np.ndarray, groups: np.ndarray, pooled: float, level: float) -> dict[str, Any]:
    """Return the mean of `hit` (bool, n) with a Wilson interval at the effective sample size."""
    n = len(hit)
    effect = design_effect(hit.astype(float), groups, pooled)
    low, high = wilson(float(hit.sum()) / effect, n / effect, level)
    estimate = float(hit.mean()) if n else float("nan")
    method = "Wilson, counts divided by the design effect"
    return record(estimate, low, high, n=n, method=method, design_effect=effect)


def _mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean over the records that have cases."""
    there = [row for row in rows if row["n"]]
    if not there:
        return record(np.nan, np.nan, np.nan, n=0, method="none: no images")
    estimates = [row["estimate"] for row in there]
    low, high = mover(
        [1 / len(there)] * len(there), estimates, [(row["low"], row["high"]) for row in there]
    )
    n = sum(row["n"] for row in there)
    method = "MOVER of Wilson intervals per class"
    return record(float(np.mean(estimates)), low, high, n=n, method=method)


def _auc_record(
    estimate: float, replicates: np.ndarray, n: int, groups: int, level: float
) -> dict[str, Any]:
    """Return a bootstrap interval; for a perfect AUC, which no resample can lower, a Wilson limit."""
    if np.isnan(estimate):
        return record(np.nan, np.nan, np.nan, n=n, method="none: class absent")
    if estimate == 1.0:
        low = wilson(groups, groups, level)[0]
        return record(1.0, low, 1.0, n=n, method="Wilson limit over groups, as no resample differs")
    low, high = percentile(replicates, level, groups)
    return record(estimate, low, high, n=n, method="clustered bootstrap")


def scalar(metric: str, model: Assessed) -> float:
    """Return the estimate of one of `SCALARS` on its reported scale."""
    value = float(model.arm.estimates[metric])
    return float(np.sqrt(max(value, 0.0))) if metric in bootstrap.SQUARED else value


def describe(
    model: Assessed, replicates: dict[str, np.ndarray], cfg: SafetyConfig
) -> dict[str, Any]:
    """Return what ``safety.json`` holds of one model, less what only the stage knows.

    Parameters
    ----------
    model : from `evaluate`.
    replicates : this model's part of `edgeward.tasks.multiclass.arm.run`.
    """
    s, level, correct = model.sample, cfg.confidence_level, model.scores.correct
    pooled = pooled_correlation(correct.astype(float), s.labels, s.groups)
    per_class = []
    for k, name in enumerate(s.classes):
        mine, said = s.labels == k, model.scores.decision == k
        groups_k = s.n_groups(k)
        row: dict[str, Any] = {
            "class": name,
            "n": int(mine.sum()),
            "n_groups": groups_k,
            "rare": name in s.rare_classes,
            "sensitivity": proportion(correct[mine], s.groups[mine], pooled, level),
            "specificity": proportion(~said[~mine], s.groups[~mine], pooled, level),
            "auc": _auc_record(
                float(model.arm.estimates["auc"][k]), replicates["auc"][k], int(mine.sum()),
                min(groups_k, len(np.unique(s.groups[~mine]))), level,
            ),
            "classwise_ece": record(
                float(model.arm.estimates["classwise_ece"][k]),
                *percentile(replicates["classwise_ece"][k], level, s.n_groups()),
                method="clustered bootstrap",
            ),
        }  # fmt: skip
        per_class.append(row)
    sensitivities = [row["sensitivity"] for row in per_class]
    out: dict[str, Any] = {
        "auc_macro": _auc_record(
            scalar("auc_macro", model), replicates["auc_macro"], len(s.labels), s.scarcest, level
        ),
        "accuracy": proportion(correct, s.groups, pooled, level),
        "balanced_accuracy": _mean(sensitivities),
        "rare_recall": _mean([sensitivities[k] for k in s.rare]),
    }
    for metric in SCALARS[4:]:
        low, high = percentile(replicates[metric], level, s.n_groups())
        out[metric] = record(
            scalar(metric, model), low, high, n=len(s.labels), method="clustered bootstrap"
        )
    return {
        "classes": s.classes,
        "rare_classes": s.rare_classes,
        "absent_classes": [row["class"] for row in per_class if not row["n"]],
        "confidence_level": level,
        **out,
        "temperature": model.temperature,
        "smooth_ece_bandwidth": model.arm.bandwidth,
        "per_class": per_class,
        "reliability": reliability(model, cfg),
        "confusion": np.histogram2d(
            s.labels, model.scores.decision, bins=np.arange(len(s.classes) + 1)
        )[0].astype(int),
    }


def reliability(model: Assessed, cfg: SafetyConfig) -> dict[str, list[float]]:
    """Return the reliability diagram over equal-mass bins, accuracies with Wilson intervals."""
    confidence, correct = model.scores.confidence, model.scores.correct
    bin_of = calibration.equal_mass_bins(confidence, cfg.multiclass.ece_bins)
    residual = correct - confidence
    pooled = pooled_correlation(residual, bin_of, model.sample.groups)
    out: dict[str, list[float]] = {
        "confidence": [], "accuracy": [], "low": [], "high": [], "count": [],
    }  # fmt: skip
    for b in range(bin_of.max() + 1):
        mine = bin_of == b
        row = proportion(correct[mine], model.sample.groups[mine], pooled, cfg.confidence_level)
        out["confidence"].append(float(confidence[mine].mean()))
        out["accuracy"].append(row["estimate"])
        out["low"].append(row["low"])
        out["high"].append(row["high"])
        out["count"].append(int(mine.sum()))
    return out


def churn(reference: Assessed, compressed: Assessed, level: float) -> dict[str, Any]:
    """Return the share of images on which the two models decide differently."""
    s = reference.sample
    differs = reference.scores.decision != compressed.scores.decision
    pooled = pooled_correlation(differs.astype(float), s.labels, s.groups)
    return proportion(differs, s.groups, pooled, level)


def paired_tables(
    reference: Assessed, compressed: Assessed, level: float
) -> tuple[list[paired.PairedRecall], paired.PairedRecall]:
    """Return the paired comparison of every class's recall, and of accuracy."""
    s = reference.sample
    a, b = reference.scores.correct, compressed.scores.correct
    rows = paired.paired_recall(a, b, s.labels, s.groups, len(s.classes), level)
    return rows, paired.paired_accuracy(a, b, s.labels, s.groups, level)
