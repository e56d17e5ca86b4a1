"""Paired comparison of two models' decisions on the same images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import bdtr

from edgeward.safety.clusters import design_effect, pooled_correlation
from edgeward.safety.intervals import mover, record, tango, z_value


def mcnemar_exact(lost: int, gained: int) -> float:
    """Return the two-sided exact McNemar p-value, ``min(1, 2 P(X <= min))``, X ~ Bin(lost + gained, 1/2)."""
    if lost + gained == 0:
        return 1.0
    return min(1.0, 2.0 * float(bdtr(min(lost, gained), lost + gained, 0.5)))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return Holm's step-down adjusted p-values (Scand. J. Stat. 6 (1979) 65-70), shape as given."""
    order = np.argsort(p_values, kind="stable")
    steps = (len(p_values) - np.arange(len(p_values))) * p_values[order]
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


@dataclass(frozen=True)
class PairedRecall:
    """Recall of one class under two models on the same images.

    Attributes
    ----------
    n, groups : images and groups of the class.
    gained, lost : images that only the compressed, only the reference model finds.
    design_effect : of the differences; the interval uses counts divided by it.
    low, high : limits of ``(gained - lost)/n``.
    """

    n: int
    groups: int
    gained: int
    lost: int
    design_effect: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """Recall of the compressed minus recall of the reference model; NaN without images."""
        return (self.gained - self.lost) / self.n if self.n else float("nan")

    def record(self) -> dict[str, Any]:
        """Return the difference as an interval record."""
        method = "Tango score, counts divided by the design effect"
        return record(
            self.difference, self.low, self.high, n=self.n, method=method,
            design_effect=self.design_effect,
        )  # fmt: skip


def paired_recall(
    reference: np.ndarray, compressed: np.ndarray, labels: np.ndarray, groups: np.ndarray,
    classes: int, level: float,
) -> list[PairedRecall]:  # fmt: skip
    """Compare the recall of every class.

    Parameters
    ----------
    reference, compressed : bool, shape (n,): whether each model is right.
    labels, groups : int, shape (n,).
    classes : number of classes.
    level : two-sided confidence level.
    """
    change = compressed.astype(float) - reference.astype(float)
    pooled = pooled_correlation(change, labels, groups)
    out = []
    for k in range(classes):
        mine = labels == k
        out.append(_paired(change[mine], groups[mine], pooled, level))
    return out


def _paired(change: np.ndarray, groups: np.ndarray, pooled: float, level: float) -> PairedRecall:
    n, gained, lost = len(change), int((change > 0).sum()), int((change < 0).sum())
    effect = design_effect(change, groups, pooled)
    low, high = tango(gained / effect, lost / effect, n / effect, level)
    return PairedRecall(n, len(np.unique(groups)), gained, lost, effect, low, high)


def paired_accuracy(
    reference: np.ndarray, compressed: np.ndarray, labels: np.ndarray, groups: np.ndarray,
    level: float,
) -> PairedRecall:  # fmt: skip
    """Compare the accuracy over all images; arguments as for `paired_recall`."""
    change = compressed.astype(float) - reference.astype(float)
    return _paired(change, groups, pooled_correlation(change, labels, groups), level)


def mean_difference(rows: list[PairedRecall]) -> dict[str, Any]:
    """Return the difference of mean recall over those classes that have images."""
    there = [row for row in rows if row.n]
    if not there:
        return record(np.nan, np.nan, np.nan, n=0, method="none: no images")
    weights = [1 / len(there)] * len(there)
    differences = [row.difference for row in there]
    low, high = mover(weights, differences, [(row.low, row.high) for row in there])
    return record(
        float(np.mean(differences)), low, high, n=sum(row.n for row in there),
        method="MOVER of Tango score intervals per class",
    )  # fmt: skip


def cases_needed(
    row: PairedRecall, pooled_discordance: float, margin: float, level: float, power: float
) -> int:
    """Return the cases of a class with which non-inferiority would be shown.

    For equal recalls, ``(z_alpha + z_power)^2 psi D / margin^2`` with the observed discordance psi =
    (gained + lost)/n and design effect D (Connor, Biometrics 43 (1987) 207-211, for no difference); at
    least one discordant case is assumed, the pooled rate if there is no case at all, and no fewer than
    ``z^2 (1/margin - 1) D``, below which Tango's interval exceeds the margin even without discordance.
    """
    z, z_power = z_value(level), z_value(2 * power - 1)
    rate = max(row.gained + row.lost, 1) / row.n if row.n else pooled_discordance
    wanted = max((z + z_power) ** 2 * rate / margin**2, z * z * (1 / margin - 1))
    return int(np.ceil(wanted * row.design_effect))
