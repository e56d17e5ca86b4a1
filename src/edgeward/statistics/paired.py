"""Paired comparison of what two models hit on the same units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, gammaln, xlog1py, xlogy

from edgeward.records.base import Interval
from edgeward.statistics.clusters import design_effect, pooled_correlation
from edgeward.statistics.intervals import tango, tango_statistic, z_value
from edgeward.statistics.proportions import ABSENT

_MANY = 20_000  # from here on the normal approximation is exact enough


def mcnemar_exact(lost: float, gained: float) -> float:
    """Return the two-sided exact McNemar p-value, ``min(1, 2 P(X <= min))``, X ~ Bin(lost + gained, 1/2).

    Counts may be fractions, so that they can be divided by a design effect: the binomial distribution function is
    continued by the incomplete beta function.
    """
    if lost + gained == 0:
        return 1.0
    return min(1.0, 2.0 * float(betainc(max(lost, gained), min(lost, gained) + 1, 0.5)))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return Holm's step-down adjusted p-values (Scand. J. Stat. 6 (1979) 65-70), shape as given."""
    order = np.argsort(p_values, kind="stable")
    steps = (len(p_values) - np.arange(len(p_values))) * p_values[order]
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


@dataclass(frozen=True)
class PairedShare:
    """A share of units (images, lesions) with a hit under two models on the same units.

    Attributes
    ----------
    n, groups : units and their groups.
    gained, lost : units that only the compressed, only the reference model hits.
    design_effect : of the changes; the interval uses counts divided by it.
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
    def p_value(self) -> float:
        """Exact McNemar, two-sided, of the counts divided by the design effect."""
        return mcnemar_exact(self.lost / self.design_effect, self.gained / self.design_effect)

    @property
    def interval(self) -> Interval:
        """Share of the compressed minus share of the reference model."""
        if not self.n:
            return ABSENT
        return Interval.of(
            (self.gained - self.lost) / self.n, self.low, self.high, n=self.n,
            method="Tango score, counts divided by the design effect", design_effect=self.design_effect,
        )  # fmt: skip


def paired_share(
    before: np.ndarray, after: np.ndarray, labels: np.ndarray, groups: np.ndarray, level: float,
    where: np.ndarray | None = None,
) -> PairedShare:  # fmt: skip
    """Compare a share of units.

    Parameters
    ----------
    before, after : bool, shape (n,): whether the reference and the compressed model hit each unit.
    labels, groups : int, shape (n,).
    level : two-sided confidence level.
    where : bool, shape (n,): the units that are counted; the others only help to tell how alike the
        changes of one group are (about the means of their labels).
    """
    change = after.astype(float) - before.astype(float)
    pooled = pooled_correlation(change, labels, groups)
    if where is not None:
        change, groups = change[where], groups[where]
    n, gained, lost = len(change), int((change > 0).sum()), int((change < 0).sum())
    effect = design_effect(change, groups, pooled)
    low, high = tango(gained / effect, lost / effect, n / effect, level)
    return PairedShare(n, len(np.unique(groups)), gained, lost, effect, low, high)


def non_inferiority_power(n: int, discordance: float, margin: float, level: float) -> float:
    """Return the chance that Tango's interval of n independent pairs lies within the margin.

    For equal shares: discordant pairs are binomial (n, discordance), and half of them are losses.
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
    row: PairedShare, pooled_discordance: float, margin: float, level: float, power: float
) -> int:
    """Return the units with which non-inferiority would probably be shown.

    The least number, in steps of 5 %, with `power` chance of a pass if both shares are equal and the
    discordance stays at the rate seen, times the design effect. At least one discordant unit is
    assumed, since none among few does not mean none; without any unit, the rate over all of its kind.
    """
    rate = max(row.gained + row.lost, 1) / row.n if row.n else pooled_discordance
    z = z_value(level) + z_value(2 * power - 1)
    least = z_value(level) ** 2 * (1 / margin - 1)  # Tango's limit without any discordance
    n = int(np.ceil(max(z**2 * rate / margin**2, least)))
    while n < _MANY and non_inferiority_power(n, rate, margin, level) < power:
        n = int(np.ceil(1.05 * n))
    return int(np.ceil(n * row.design_effect))
