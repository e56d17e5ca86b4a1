"""Interval estimates for proportions, single and paired, that hold with few and clustered cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri, stdtrit


def z_value(level: float) -> float:
    """Return the normal quantile of a two-sided interval, 1.96 for 0.95."""
    return float(ndtri(0.5 + level / 2))


def wilson(successes: float, n: float, level: float) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion.

    Parameters
    ----------
    successes, n : counts; fractions are allowed, so that both may be scaled to an effective size.
    level : two-sided confidence level.

    Returns
    -------
    Lower and upper limit; (0, 1) if n is 0. Wilson, JASA 22 (1927) 209-212.
    """
    if n <= 0:
        return 0.0, 1.0
    z, p = z_value(level), successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if successes <= 0 else float(max(0.0, centre - half))
    high = 1.0 if successes >= n else float(min(1.0, centre + half))
    return low, high


def tango_statistic(delta: float, gained: ArrayLike, lost: ArrayLike, n: float) -> np.ndarray:
    """Return the score statistic of ``p_gained - p_lost = delta``: Tango 1998, equations 9 to 12.

    Parameters
    ----------
    delta : difference under test.
    gained, lost : discordant counts, any common shape.
    n : pairs in all.
    """
    right, wrong = np.asarray(gained, float), np.asarray(lost, float)
    a = 2 * n
    b = -right - wrong + (2 * n - right + wrong) * delta
    c = -wrong * delta * (1 - delta)
    q = (np.sqrt(np.maximum(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = np.maximum(n * (2 * q + delta * (1 - delta)), 0.0)
    distance = right - wrong - n * delta
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distance == 0, 0.0, distance / np.sqrt(variance))


def tango(gained: float, lost: float, n: float, level: float) -> tuple[float, float]:
    """Return Tango's score interval of the difference of two paired proportions.

    It stays honest where a bootstrap collapses: without any discordant pair it is
    +-z^2/(n + z^2), not [0, 0].

    Parameters
    ----------
    gained : pairs right only in the second model (fractions allowed).
    lost : pairs right only in the first model.
    n : pairs in all.
    level : two-sided confidence level.

    Returns
    -------
    Limits of (gained - lost)/n; (-1, 1) if n is 0. Tango, Stat. Med. 17 (1998) 891-908.
    """
    if n <= 0:
        return -1.0, 1.0
    z, estimate = z_value(level), (gained - lost) / n
    limits = []
    for end in (-1.0, 1.0):
        inside, outside = estimate, end
        for _ in range(60):
            middle = (inside + outside) / 2
            if abs(float(tango_statistic(middle, gained, lost, n))) < z:
                inside = middle
            else:
                outside = middle
        limits.append(inside)
    return limits[0], limits[1]


def mover(
    weights: Sequence[float], estimates: Sequence[float], limits: Sequence[tuple[float, float]]
) -> tuple[float, float]:
    """Return an interval of a weighted sum of independent estimates from their own intervals.

    "Method of variance estimates recovery" (Zou & Donner, Stat. Med. 27 (2008) 1693-1702), here for
    non-negative weights: it inherits the small-sample behaviour of the single intervals.
    """
    w, x = np.asarray(weights, float), np.asarray(estimates, float)
    low, high = np.asarray(limits, float).T
    total = float(w @ x)
    return (
        total - float(np.sqrt(np.sum((w * (x - low)) ** 2))),
        total + float(np.sqrt(np.sum((w * (high - x)) ** 2))),
    )


def expanded_tail(level: float, n: float) -> float:
    """Return the tail share at which to cut a bootstrap distribution of `n` independent units.

    The plain percentile interval is too short by about sqrt((n-1)/n) and uses z where t is due; the
    expanded percentile interval undoes both (Hesterberg, Am. Stat. 69 (2015) 371-386, section 5.3).
    """
    if n < 2:
        return 0.0
    t = float(stdtrit(n - 1, 0.5 + level / 2))
    return float(ndtr(-np.sqrt(n / (n - 1)) * t))


def percentile(replicates: np.ndarray, level: float, n: float) -> tuple[float, float]:
    """Return the expanded percentile interval of bootstrap replicates, NaN replicates left out.

    Parameters
    ----------
    replicates : float, shape (resamples,).
    level : two-sided confidence level.
    n : independent units (groups) behind the statistic; of the scarcest class if it is per class.
    """
    usable = replicates[np.isfinite(replicates)]
    if not len(usable):
        return float("nan"), float("nan")
    tail = expanded_tail(level, n)
    low, high = np.quantile(usable, [tail, 1 - tail])
    return float(low), float(high)
