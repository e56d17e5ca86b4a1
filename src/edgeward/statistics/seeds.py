"""Several seeds of one model together: what the training does, apart from what these cases do.

A network's metric varies for two reasons: its training (seed), and the cases that it is tested on.
Seeds share the test cases, so neither a bootstrap of the cases nor the spread over seeds has it
all. Here the mean over K seeds has the variance

    s^2 / K  +  var_cases,

s^2 the variance over seeds and var_cases the variance of the mean over clustered resamples of the
cases, the same for all seeds and models; the interval is Student's t with the degrees of freedom of
Satterthwaite (Biometrics Bulletin 2 (1946) 110-114). A difference of recipes is taken seed by seed,
since both come from the same training; a difference of models is not, since their seeds have
nothing in common.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from edgeward.records.base import Interval

Values = dict[str, tuple[np.ndarray, np.ndarray]]
"""Metric -> estimates (K,) and replicates (K, resamples) of the seeds."""


def satterthwaite(variances: Sequence[float], freedoms: Sequence[float]) -> float:
    """Return the degrees of freedom of a sum of variances, each with its own; inf if all are 0."""
    below = sum(v * v / f for v, f in zip(variances, freedoms, strict=True))
    return float(sum(variances) ** 2 / below) if below else float("inf")


def combine(
    arms: Sequence[tuple[float, np.ndarray, np.ndarray]],
    cases: int,
    level: float,
    least: float = 0.0,
) -> Interval:
    """Return the interval of a signed sum of means over seeds.

    Parameters
    ----------
    arms : (sign, estimates (K,), replicates (K, resamples)); resamples are the same for all.
    cases : number of independent groups of test cases.
    level : two-sided confidence level.
    least : smallest possible value; the largest is 1.

    Returns
    -------
    ``estimate, low, high, n`` (seeds of the first arm), ``sd_seeds`` (of the first arm),
    ``se_seeds, se_cases, freedom, method``.
    """
    estimate = sum(sign * float(values.mean()) for sign, values, _ in arms)
    case_variance = float(np.var(sum(sign * r.mean(axis=0) for sign, _, r in arms), ddof=1))
    seed_variances = [float(np.var(v, ddof=1)) / len(v) for _, v, _ in arms]
    variances = [*seed_variances, case_variance]
    freedom = satterthwaite(variances, [*(len(v) - 1 for _, v, _ in arms), max(cases - 1, 1)])
    error = float(np.sqrt(sum(variances)))
    reach = error * (float(stdtrit(freedom, 0.5 + level / 2)) if np.isfinite(freedom) else 0.0)
    return Interval.of(
        estimate,
        max(least, estimate - reach),
        min(1.0, estimate + reach),
        n=len(arms[0][1]),
        method="t over seeds and clustered resamples",
        sd_seeds=float(np.std(arms[0][1], ddof=1)),
        se_seeds=float(np.sqrt(sum(seed_variances))),
        se_cases=float(np.sqrt(case_variance)),
        freedom=freedom if np.isfinite(freedom) else None,
    )


def defined(found: Values) -> Values:
    """Leave out what some seed or resample does not have."""
    return {
        name: pair
        for name, pair in found.items()
        if np.isfinite(pair[0]).all() and np.isfinite(pair[1]).all()
    }
