"""Folds of a cross-validation together: each case is decided once, by a network that has not seen it, but not all by one network.

An interval of the pooled cases holds for these very networks. What is asked of a recipe is the mean over trainings, and they
differ. Folds differ in both their cases and their training, so the spread over K folds tells of both: with weights w (sum 1) and
estimates d, the mean has the variance

    sum w^2 / (1 - sum w^2) * sum w (d - mean)^2,

which for equal weights is the usual s^2 / K, with K - 1 degrees of freedom. The wider of the two intervals is taken, on each side:
that of the cases, which knows them better, and Student's t over the folds, which alone sees the trainings. So it covers at
least as it says, whatever the trainings do (docs/statistics.md has the simulation; subtracting the share of the cases, as
in a meta-analysis, covers 93 % with 5 folds). Training sets of folds overlap; what that hides cannot be estimated without bias
(Bengio & Grandvalet, JMLR 5 (2004) 1089-1105), so the interval is of recipes trained on these cases, not on others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from edgeward.records.base import Interval


def reach(found: Interval, level: float) -> float:
    """Return how far Student's t over the folds reaches to either side of an estimate; 0 where it is not of folds.

    No number of cases brings an interval below that: it is what trainings differ in.
    """
    if found.freedom is None or found.se_seeds is None:
        return 0.0
    return float(stdtrit(found.freedom, 0.5 + level / 2)) * found.se_seeds


def p_value(found: Interval) -> float:
    """Return the two-sided p value of a mean over folds being zero, by Student's t; 0 where it is not of folds."""
    if found.freedom is None or found.se_seeds is None or found.estimate is None:
        return 0.0
    if found.se_seeds == 0:
        return float(found.estimate == 0)
    return 2 * float(stdtr(found.freedom, -abs(found.estimate) / found.se_seeds))


@dataclass(frozen=True)
class Spread:
    """How much folds differ in a metric.

    Attributes
    ----------
    sd : over the folds. error : standard error of the mean over them. freedom : degrees of freedom.
    """

    sd: float
    error: float
    freedom: int

    @classmethod
    def of(cls, estimates: np.ndarray, weights: np.ndarray) -> Spread:
        """Return it from the estimates and the weights of at least 2 folds, float (K,)."""
        w = weights / weights.sum()
        squares = float(w @ w)
        sd = float(np.sqrt(w @ (estimates - w @ estimates) ** 2 / (1 - squares)))
        return cls(sd, sd * float(np.sqrt(squares)), len(w) - 1)

    def widen(self, found: Interval, level: float, least: float, most: float) -> Interval:
        """Return an interval for these very networks as one for the mean over trainings.

        Parameters
        ----------
        level : two-sided confidence level. least, most : possible values.
        """
        if not found.bounded:
            return found
        estimate, low, high = found
        known = {
            "sd_seeds": self.sd,
            "se_seeds": self.error,
            "freedom": float(self.freedom),
        }
        half = reach(found.model_copy(update=known), level)
        return found.model_copy(
            update={
                "low": max(least, min(low, estimate - half)),
                "high": min(most, max(high, estimate + half)),
                "method": f"{found.method}, or Student's t over the folds where that is wider",
                **known,
            }
        )
