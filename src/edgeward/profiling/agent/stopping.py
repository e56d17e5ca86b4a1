"""When a timed run has enough samples.

The window ends, after its minimum, as soon as the order-statistic intervals of the judged
percentiles are narrow enough. Looking again and again until an interval pleases would ruin its
coverage if one looked at where it lies; here only its width decides. For intervals of a fixed
width around a mean, stopping on the width keeps the coverage asymptotically (Chow and Robbins, Ann.
Math. Stat. 36:457, 1965), since the spread of a large sample says almost nothing about the error of
its location; quantiles behave alike. What is left at small n is kept small by the minimum count and
by looking rarely: the sample grows by a quarter between two looks. Simulated for
log-normal, gamma and two-peaked latencies, 95 % intervals cover 94.4 to 96.2 % of the time with 200
samples at least and 2 % asked for; with 400 and 1 % the worst is 93.2 %, of a p90 that borders on the
gap between two peaks.
"""

from __future__ import annotations

import math
from typing import Any

GROWTH = 1.25  # of the sample between two looks


def interval_ranks(n: int, share: float, confidence: float) -> Any:
    """Return the 1-based ranks of the order statistics around a quantile, as numpy alone can.

    The definition is that of `edgeward.profiling.statistics.interval_ranks`; None where n is too
    small for that end.
    """
    import numpy as np

    tail = (1 - confidence) / 2
    k = np.arange(1, n)  # pmf(k) / pmf(k - 1) = (n - k + 1) / k * share / (1 - share)
    steps = np.log((n - k + 1) / k) + math.log(share / (1 - share))
    logs = n * math.log(1 - share) + np.concatenate([[0.0], np.cumsum(steps)])
    below = np.cumsum(np.exp(logs))  # P(at most k samples lie below the quantile), k = 0..n-1
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1 - tail, side="left")) + 1
    return (low if low >= 1 else None), (high if high <= n else None)


def half_widths(samples: Any, percents: list[float], confidence: float) -> list[float]:
    """Return half the width of each percentile's interval, as a share of the percentile.

    Infinite where there are too few samples for an interval. `samples` has shape (n,).
    """
    import numpy as np

    n = len(samples)
    ordered = np.sort(samples)
    widths = []
    for percent in percents:
        low, high = interval_ranks(n, percent / 100, confidence)
        if low is None or high is None:
            widths.append(math.inf)
            continue
        middle = float(ordered[max(1, math.ceil(n * percent / 100 - 1e-9)) - 1])
        widths.append(float(ordered[high - 1] - ordered[low - 1]) / 2 / middle)
    return widths


def enough(samples: Any, stop: dict[str, Any]) -> bool:
    """Return whether every percentile of ``stop["percentiles"]`` is known to ``half_width``."""
    widths = half_widths(samples, stop["percentiles"], stop["confidence"])
    return max(widths) <= stop["half_width"]
