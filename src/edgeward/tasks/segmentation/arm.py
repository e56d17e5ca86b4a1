"""The metrics of a segmentation's tables, and their replicates under weights of the cases.

Every metric is a ratio of sums over cases, or a mean of such ratios over the classes, so a resample is a matrix
product of case weights with the features of the cases.
"""

from __future__ import annotations

import numpy as np

from edgeward.statistics.grouped_calibration import GroupedECE
from edgeward.tasks.assessment import Cases, mean_there
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
SQUARED = ("ece", "boundary_ece")
Values = dict[str, np.ndarray]


class Metrics:
    """One model's metrics: the estimates, and their replicates under blocks of weights.

    Parameters
    ----------
    small : largest small lesion; None: no lesion is small.

    Attributes
    ----------
    ratios : metric -> numerator and denominator, each float64 (n, classes).
    estimates, class_estimates : metric -> float64 () and (classes,); those of `SQUARED` are signed squares.
    """

    def __init__(self, tables: Tables, cases: Cases, small: float | None) -> None:
        k = len(cases.classes)
        column = {
            name: tables.column(name, k)
            for name in (*PER_IMAGE, "truth", "predicted", "both", "lesions", "found")
        }
        column["false_lesions"] = tables.column("false_lesions", k)
        self.present: np.ndarray = column["truth"] > 0
        absent = ~self.present
        self.ratios: dict[str, tuple[np.ndarray, np.ndarray]] = {
            **{name: (np.nan_to_num(column[name]), self.present) for name in PER_IMAGE},
            "dice_pooled": (2 * column["both"], column["truth"] + column["predicted"]),
            "false_lesions": (column["false_lesions"], np.ones_like(column["truth"])),
            "false_alarms": (absent & (column["predicted"] > 0), absent),
            "lesion_sensitivity": (column["found"], column["lesions"]),
            "small_lesion_sensitivity": _small_counts(tables, cases, small),
        }
        self.sums = np.stack(tables.sums)  # (n, regions, bins, 3)
        self._calibration = {
            region: GroupedECE(self.sums[:, r], cases.groups) for r, region in enumerate(REGIONS)
        }
        whole, per_class = self.replicates(np.ones((len(cases), 1)))
        self.estimates = {name: value[..., 0] for name, value in whole.items()}
        self.class_estimates = {name: value[..., 0] for name, value in per_class.items()}
        for name, region in ECES.items():
            ece = self._calibration[region]
            self.estimates[name] = np.asarray(ece.square if name in SQUARED else ece.plain)

    def replicates(self, weights: np.ndarray) -> tuple[Values, Values]:
        """Return the metrics, and those of each class, under weights (n, b), b on the last axis.

        Besides, among the former, ``accuracy_per_bin`` (regions, bins, b).
        """
        weights = weights.astype(np.float64)
        out: Values = {}
        per_class: Values = {}
        with np.errstate(invalid="ignore", divide="ignore"):
            for name, (above, below) in self.ratios.items():
                top, bottom = above.T @ weights, below.T @ weights
                per_class[name] = top / bottom
                if name in SENSITIVITIES:
                    out[name] = top.sum(axis=0) / bottom.sum(axis=0)
                else:
                    out[name] = mean_there(top / bottom)
            flat = self.sums.reshape(len(self.sums), -1)
            sums = (flat.T @ weights).reshape(*self.sums.shape[1:], -1)
            out["accuracy_per_bin"] = sums[:, :, 2] / sums[:, :, 0]
        for name, region in ECES.items():
            ece = self._calibration[region]
            out[name] = ece.squares(weights) if name in SQUARED else ece.plains(weights)
        return out, per_class


def _small_counts(
    tables: Tables, cases: Cases, small: float | None
) -> tuple[np.ndarray, np.ndarray]:
    place = {int(index): n for n, index in enumerate(cases.indices)}
    found, there = np.zeros((2, len(place), len(cases.classes)))
    for row in tables.lesions if small is not None else []:
        if small is not None and row.size <= small:
            there[place[row.index], row.class_number] += 1
            found[place[row.index], row.class_number] += row.found
    return found, there
