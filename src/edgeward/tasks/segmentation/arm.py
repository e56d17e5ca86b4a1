"""A segmentation model's metrics on a test set, and their clustered resamples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgeward.safety.config import DenseConfig
from edgeward.statistics.grouped_calibration import GroupedECE
from edgeward.tasks.multiclass.arm import resample_weights
from edgeward.tasks.segmentation.tables import REGIONS, Tables

PER_IMAGE = ("dice", "iou", "hd95", "surface_dice")
"""Averaged over the cases whose mask has the class."""
SENSITIVITIES = ("lesion_sensitivity", "small_lesion_sensitivity")
ECES = {
    "ece": "all",
    "ece_15bin": "all",
    "boundary_ece": "boundary",
    "boundary_ece_15bin": "boundary",
}
"""Metric -> region. Root of the debiased square; with 15bin the mean absolute gap, as usual."""
_SQUARED = ("ece", "boundary_ece")
SCALARS = (*PER_IMAGE, "dice_pooled", "false_lesions", "false_alarms", *SENSITIVITIES, *ECES)
LOWER_IS_BETTER = ("hd95", "false_lesions", "false_alarms", *ECES)
Replicates = dict[str, np.ndarray]


@dataclass(frozen=True)
class Cases:
    """The labelled test cases.

    Attributes
    ----------
    indices, strata, groups : int64 (n,): place in the prepared data, class of the stratified split,
        and lesion or patient.
    classes : names of the foreground classes; class k has label k + 1.
    rare_classes : those that the card calls rare.
    """

    indices: np.ndarray
    strata: np.ndarray
    groups: np.ndarray
    classes: list[str]
    rare_classes: list[str]

    def n_groups(self, where: np.ndarray | None = None) -> int:
        """Return the number of groups, or of those with a case in the mask `where`, bool (n,)."""
        return len(np.unique(self.groups if where is None else self.groups[where]))


@dataclass(frozen=True)
class Findings:
    """All lesions of the test set, of one class or of all: int64 (m,) class and group, float64 (m,) size."""

    label: np.ndarray
    group: np.ndarray
    size: np.ndarray
    found: np.ndarray

    def of(self, where: np.ndarray) -> Findings:
        """Return a part of them."""
        return Findings(*(v[where] for v in (self.label, self.group, self.size, self.found)))


class DenseArm:
    """One model on the test cases: the estimates, and their replicates under blocks of weights.

    Every metric is a ratio of sums over cases, or a sum of such ratios, so a resample is a matrix product
    of case weights with the features of the cases.

    Attributes
    ----------
    present : bool (n, classes), whether the mask of a case has the class.
    estimates : metric -> value; per class under ``<metric>_per_class``, float64 (classes,). The debiased
        ECEs are signed squares here; `value` gives every metric on its reported scale.
    """

    def __init__(self, tables: Tables, cases: Cases, cfg: DenseConfig) -> None:
        self.tables, self.cases, self.cfg = tables, cases, cfg
        k = len(cases.classes)
        column = {
            name: tables.column(name, k)
            for name in (*PER_IMAGE, "truth", "predicted", "both", "lesions", "found")
        }
        column["false_lesions"] = tables.column("false_lesions", k)
        self.present: np.ndarray = column["truth"] > 0
        absent = ~self.present
        small = self._small_counts(k)
        # metric -> numerator and denominator, each (n, classes)
        self._ratios: dict[str, tuple[np.ndarray, np.ndarray]] = {
            **{name: (np.nan_to_num(column[name]), self.present) for name in PER_IMAGE},
            "dice_pooled": (2 * column["both"], column["truth"] + column["predicted"]),
            "false_lesions": (column["false_lesions"], np.ones_like(column["truth"])),
            "false_alarms": (absent & (column["predicted"] > 0), absent),
            "lesion_sensitivity": (column["found"], column["lesions"]),
            "small_lesion_sensitivity": small,
        }
        self.sums = np.stack(tables.sums)  # (n, regions, bins, 3)
        self._calibration = {
            region: GroupedECE(self.sums[:, r], cases.groups) for r, region in enumerate(REGIONS)
        }
        once = self._metrics(np.ones((len(cases.indices), 1)))
        self.estimates = {name: value[..., 0] for name, value in once.items()}
        for name, region in ECES.items():
            ece = self._calibration[region]
            self.estimates[name] = np.asarray(ece.square if name in _SQUARED else ece.plain)

    @cached_property
    def findings(self) -> Findings:
        """Every lesion with its group."""
        group_of = dict(zip(self.cases.indices.tolist(), self.cases.groups.tolist(), strict=True))
        rows = self.tables.lesions
        return Findings(
            np.array([row.class_number for row in rows], dtype=np.int64),
            np.array([group_of[row.index] for row in rows], dtype=np.int64),
            np.array([row.size for row in rows], dtype=np.float64),
            np.array([row.found for row in rows], dtype=bool),
        )

    @property
    def small(self) -> np.ndarray:
        """Which of the findings are small, bool (m,)."""
        limit = self.cfg.segmentation.small_lesion
        return self.findings.size <= (-np.inf if limit is None else limit)

    def _small_counts(self, classes: int) -> tuple[np.ndarray, np.ndarray]:
        place = {int(index): n for n, index in enumerate(self.cases.indices)}
        found, there = np.zeros((2, len(place), classes))
        limit = self.cfg.segmentation.small_lesion
        for row in self.tables.lesions if limit is not None else []:
            if limit is not None and row.size <= limit:
                there[place[row.index], row.class_number] += 1
                found[place[row.index], row.class_number] += row.found
        return found, there

    def _metrics(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return the metrics under weights (n, b), b on the last axis."""
        out: dict[str, np.ndarray] = {}
        with np.errstate(invalid="ignore", divide="ignore"):
            for name, (above, below) in self._ratios.items():
                top, bottom = above.T @ weights, below.T @ weights
                out[f"{name}_per_class"] = top / bottom
                if name in SENSITIVITIES:
                    out[name] = top.sum(axis=0) / bottom.sum(axis=0)
                else:
                    out[name] = mean_there(top / bottom)
            flat = self.sums.reshape(len(self.sums), -1)
            sums = (flat.T @ weights).reshape(*self.sums.shape[1:], -1)
            out["accuracy_per_bin"] = sums[:, :, 2] / sums[:, :, 0]
        for name, region in ECES.items():
            ece = self._calibration[region]
            out[name] = ece.squares(weights) if name in _SQUARED else ece.plains(weights)
        return out

    def replicates(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return the metrics of `estimates` under weights (n, b), the resamples on the last axis."""
        return self._metrics(weights.astype(np.float64))

    def resample_weights(self) -> Iterator[np.ndarray]:
        """Yield the blocks of case weights, float32 (n, b), of every arm on these cases."""
        cases, cfg = self.cases, self.cfg
        return resample_weights(cases.strata, cases.groups, cfg.resamples, cfg.seed)

    def n_groups(self, metric: str, k: int | None = None) -> int:
        """Return the groups behind a metric, of class k or of the class with fewest that occurs."""
        if metric in ECES or metric == "false_lesions":
            return self.cases.n_groups()
        has = self._ratios[metric][1] > 0
        if k is not None:
            return self.cases.n_groups(has[:, k])
        if metric in SENSITIVITIES:
            return self.cases.n_groups(np.asarray(has.any(axis=1)))
        return min((self.cases.n_groups(h) for h in has.T if h.any()), default=0)


def value(arm: DenseArm, metric: str, k: int | None = None) -> float:
    """Return an estimate on its reported scale, over the classes or of class k."""
    found = arm.estimates[metric] if k is None else arm.estimates[f"{metric}_per_class"][k]
    return float(np.sqrt(max(found, 0.0)) if metric in _SQUARED else found)


def mean_there(values: np.ndarray) -> np.ndarray:
    """Average (classes, ...) over the classes that are there; NaN if none is."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        result: np.ndarray = np.where(there, values, 0).sum(axis=0) / there.sum(axis=0)
    return result


def resample(arms: Mapping[str, DenseArm]) -> dict[str, Replicates]:
    """Bootstrap all arms on the same resamples of groups, stratified as in `edgeward.tasks.multiclass.arm`.

    Calibration errors grow under resampling; their replicates are shifted to have the estimate as mean.

    Returns
    -------
    arm -> metric -> replicates, float64 (resamples,) or (classes, resamples).
    """
    parts: dict[str, list[Replicates]] = {name: [] for name in arms}
    for weights in next(iter(arms.values())).resample_weights():
        for name, arm in arms.items():
            parts[name].append(arm.replicates(weights))
    out: dict[str, Replicates] = {}
    for name, arm in arms.items():
        out[name] = {
            metric: np.concatenate([part[metric] for part in parts[name]], axis=-1)
            for metric in parts[name][0]
        }
        for metric in ECES:
            values = out[name][metric]
            values = np.maximum(values + arm.estimates[metric] - np.nanmean(values), 0.0)
            out[name][metric] = np.sqrt(values) if metric in _SQUARED else values
    return out
