"""Paired comparison of two models' decisions on the same images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import bdtr, gammaln, xlog1py, xlogy

from edgeward.statistics.clusters import design_effect, pooled_correlation
from edgeward.statistics.intervals import mover, record, tango, tango_statistic, z_value

_MANY = 20_000  # from here on the normal approximation is exact enough


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


def non_inferiority_power(n: int, discordance: float, margin: float, level: float) -> float:
    """Return the chance that Tango's interval of n independent pairs lies within the margin.

    For equal recalls: discordant pairs are binomial (n, discordance), and half of them are losses.
    Summed over all counts within six standard deviations.
    """
    mean, spread = n * discordance, np.sqrt(n * discordance * (1 - discordance))
    m = np.arange(max(0, int(mean - 6 * spread) - 6), min(n, int(mean + 6 * spread) + 6) + 1)
    lost = np.arange(m[-1] + 1)[:, None]
    share = (
        _log_choose(n, m) + xlogy(m, discordance) + xlog1py(n - m, -discordance)
        + _log_choose(m, np.minimum(lost, m)) - m * np.log(2)
    )  # fmt: skip
    passed = (lost <= m) & (tango_statistic(-margin, m - lost, lost, n) > z_value(level))
    return float(np.exp(share)[passed].sum())


def _log_choose(n: np.ndarray | int, k: np.ndarray) -> np.ndarray:
    result: np.ndarray = gammaln(np.add(n, 1)) - gammaln(k + 1) - gammaln(np.subtract(n, k) + 1)
    return result


def cases_needed(
    row: PairedRecall, pooled_discordance: float, margin: float, level: float, power: float
) -> int:
    """Return the images of a class with which non-inferiority would probably be shown.

    The least number, in steps of 5 %, with `power` chance of a pass if both recalls are equal and the
    discordance stays at the rate seen, times the design effect. At least one discordant image is
    assumed, since none among few does not mean none; without any image, the rate over all classes.
    """
    rate = max(row.gained + row.lost, 1) / row.n if row.n else pooled_discordance
    z = z_value(level) + z_value(2 * power - 1)
    least = z_value(level) ** 2 * (1 / margin - 1)  # Tango's limit without any discordance
    n = int(np.ceil(max(z**2 * rate / margin**2, least)))
    while n < _MANY and non_inferiority_power(n, rate, margin, level) < power:
        n = int(np.ceil(1.05 * n))
    return int(np.ceil(n * row.design_effect))
