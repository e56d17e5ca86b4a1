"""Percentiles of latency samples, their intervals, and whether to believe them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import bdtr, stdtrit

from edgeward.profiling.config import ProfileConfig, ValidityConfig
from edgeward.records.profile import Interval, Latency, Spread


def interval_ranks(n: int, share: float, confidence: float) -> tuple[int | None, int | None]:
    """Return the ranks of the order statistics that enclose a quantile.

    For independent samples of any continuous distribution, the number of samples below the
    quantile is binomial(n, share); so the l-th smallest lies below it, and the u-th smallest above
    it, each with probability at least 1 - (1 - confidence) / 2, for the largest such l and the
    smallest such u (David and Nagaraja, Order Statistics, 3rd ed., section 7.1).

    Parameters
    ----------
    n : number of samples.
    share : the quantile, in (0, 1).
    confidence : two-sided level, in (0, 1).

    Returns
    -------
    1-based ranks (l, u); None where n is too small for that end.
    """
    tail = (1 - confidence) / 2
    below = bdtr(np.arange(n), n, share)  # P(at most k samples lie below the quantile), k = 0..n-1
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1 - tail, side="left")) + 1
    return (low if low >= 1 else None), (high if high <= n else None)


def samples_needed(share: float, confidence: float) -> int:
    """Return the least number of samples for which a quantile's interval has both ends."""
    tail = (1 - confidence) / 2
    extreme = max(share, 1 - share)
    return int(np.ceil(np.log(tail) / np.log(extreme)))


def percentile(ordered: np.ndarray, percent: float, confidence: float) -> Interval:
    """Return a percentile with its interval.

    Parameters
    ----------
    ordered : samples in ascending order, shape (n,).
    percent : 0-100.
    confidence : two-sided level of the interval.

    Returns
    -------
    The estimate is the smallest sample with at least `percent` % of the samples at or below it; an end is None where
    there are too few samples.
    """
    n = len(ordered)
    share = percent / 100
    low, high = interval_ranks(n, share, confidence)
    rank = max(1, int(np.ceil(n * share - 1e-9)))
    return Interval(
        estimate=float(ordered[rank - 1]),
        low=None if low is None else float(ordered[low - 1]),
        high=None if high is None else float(ordered[high - 1]),
        n=n,
        method=f"order statistics, {confidence:g}",
    )


def latency(samples_ms: np.ndarray, percents: Sequence[float], confidence: float) -> Latency:
    """Return mean, min, max and the percentiles of samples in ms; 50 and 90 must be among `percents`."""
    ordered = np.sort(samples_ms)
    found: dict[str, Any] = {f"p{p:g}": percentile(ordered, p, confidence) for p in percents}
    return Latency(
        mean=float(ordered.mean()), min=float(ordered[0]), max=float(ordered[-1]), **found
    )


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the range of a few values, too few for an interval."""
    return Spread(
        median=float(np.median(values)),
        min=float(min(values)),
        max=float(max(values)),
        n=len(values),
    )


def rate(seconds: np.ndarray, batch: int, confidence: float) -> Interval:
    """Return images per second with their interval.

    Neighbouring inferences are not independent, so the interval is that of batch means (Law,
    Simulation Modeling and Analysis, 5th ed., section 9.5.3): the means of up to 20 consecutive
    stretches, a t interval, then the reciprocal.

    Parameters
    ----------
    seconds : durations of consecutive inferences, shape (n,).
    batch : images per inference.
    """
    stretches = min(20, len(seconds))
    means = np.array([part.mean() for part in np.array_split(seconds, stretches)])
    middle = float(seconds.mean())
    low = high = None
    if stretches > 1:
        quantile = stdtrit(stretches - 1, (1 + confidence) / 2)
        half = float(quantile * means.std(ddof=1) / np.sqrt(stretches))
        low = batch / (middle + half)
        high = batch / (middle - half) if half < middle else None
    return Interval(
        estimate=batch / middle,
        low=low,
        high=high,
        n=len(seconds),
        method=f"batch means, {confidence:g}",
    )


def paired_ratio(mine: np.ndarray, reference: np.ndarray, confidence: float) -> Interval:
    """Return the interval of the median ratio of latencies taken in turns.

    A round is the unit: both were timed within it, so what slows the machine for longer than a round
    slows both and leaves their ratio; rounds in random order see every neighbour alike. The ratios of
    the rounds are then independent draws, and the order-statistic interval of their median (see
    `interval_ranks`) holds whatever their distribution. A ratio of medians would not be paired.

    Parameters
    ----------
    mine, reference : latency of each round, shape (rounds,).
    """
    return percentile(np.sort(mine / reference), 50, confidence)


def drift(samples_ms: np.ndarray) -> float:
    """Return median of the last quarter of the samples / median of the first quarter - 1."""
    quarter = max(1, len(samples_ms) // 4)
    return float(np.median(samples_ms[-quarter:]) / np.median(samples_ms[:quarter]) - 1)


def autocorrelation(samples_ms: np.ndarray) -> float | None:
    """Return the rank correlation of neighbouring samples; the intervals assume about zero."""
    if len(samples_ms) < 3:
        return None
    ranks = np.argsort(np.argsort(samples_ms, kind="stable")).astype(float)
    return float(np.corrcoef(ranks[:-1], ranks[1:])[0, 1])


def _interval_reasons(summary: Latency, cfg: ProfileConfig, where: str) -> list[str]:
    reasons = []
    limit = cfg.validity.max_interval_width
    for percent in cfg.validity.judged_percentiles:
        record: Interval = getattr(summary, f"p{percent:g}")
        if record.low is None or record.high is None:
            needed = samples_needed(percent / 100, cfg.confidence)
            reasons.append(
                f"too few samples for p{percent:g}: {record.n}, at least {needed} needed for its "
                f"interval; raise min_count or max_duration_s in {where}"
            )
            continue
        width = (record.high - record.low) / record.estimate
        if width > limit:
            reasons.append(
                f"the interval of p{percent:g} is {width:.1%} wide, {limit:.1%} allowed; "
                f"quieten the machine, or raise min_duration_s in {where}"
            )
    return reasons


def load_reasons(
    conditions: Mapping[str, Any], duration_s: float, limits: ValidityConfig
) -> list[str]:
    """Return by how much others, and not the model itself, have disturbed a window of this length."""
    reasons = []
    steal, other = conditions["steal_s"], conditions["other_cpu_s"]
    if steal is not None and steal > limits.max_steal * max(conditions["own_cpu_s"], duration_s):
        share = steal / max(conditions["own_cpu_s"], duration_s)
        reasons.append(
            f"the hypervisor took {share:.1%} of the time, {limits.max_steal:.1%} allowed; "
            "measure on a machine that is not shared"
        )
    if other is not None and other > limits.max_other_load * duration_s:
        reasons.append(
            f"other processes used {other / duration_s:.2f} cores, {limits.max_other_load:.2f} "
            "allowed; end them, or let the stage have the machine to itself"
        )
    if hidden := conditions.get("hidden"):
        reasons.append(f"the page was hidden {hidden} times; keep it in front and the screen on")
    return reasons


def _machine_reasons(
    conditions: Mapping[str, Any], duration_s: float, limits: ValidityConfig
) -> list[str]:
    reasons = load_reasons(conditions, duration_s, limits)
    if conditions["throttled"]:
        reasons.append(f"the CPU throttled {conditions['throttled']} times; let it cool down")
    first, last = conditions["clock_mhz"]
    if first and last and last < first * (1 - limits.max_clock_drop):
        reasons.append(
            f"the clock fell from {first:.0f} to {last:.0f} MHz; fix the frequency or let it cool"
        )
    cool, hot = conditions["hottest_c"]
    if cool is not None and hot is not None and hot - cool > limits.max_heating_c:
        reasons.append(
            f"the hottest sensor rose from {cool:.0f} to {hot:.0f} degrees Celsius, "
            f"{limits.max_heating_c:g} allowed; warm up longer, or cool the device"
        )
    if conditions["cooling"][1]:
        reasons.append("the kernel holds the clock down to cool the CPU; let it cool down")
    return reasons


def judge_machine(conditions: dict[str, Any], duration_s: float, cfg: ProfileConfig) -> list[str]:
    """Return what on the machine has disturbed a window of this length; see `judge`."""
    return _machine_reasons(conditions, duration_s, cfg.validity)


def judge(
    samples_ms: np.ndarray,
    summary: Latency,
    conditions: dict[str, Any],
    duration_s: float,
    cfg: ProfileConfig,
) -> list[str]:
    """Return why a measurement is not valid, each with what to do about it; empty if it is valid.

    Parameters
    ----------
    samples_ms : in the order taken, shape (n,).
    summary : of `latency`.
    conditions : of the agent: ``own_cpu_s, other_cpu_s, steal_s, throttled, clock_mhz, hottest_c,
        cooling``; None where the machine does not tell. Of a page also ``hidden``, ``step_ns``.
    duration_s : length of the timed window.
    """
    where = f"config/profile/{cfg.name}.yaml"
    reasons = []
    if len(samples_ms) < cfg.min_count:
        reasons.append(
            f"stopped at max_duration_s = {cfg.max_duration_s:g} with {len(samples_ms)} of "
            f"min_count = {cfg.min_count} samples; raise max_duration_s in {where}"
        )
    reasons += _interval_reasons(summary, cfg, where)
    step_ms, middle = (conditions.get("step_ns") or 0) / 1e6, summary.p50.estimate
    if step_ms > cfg.half_width * middle:
        reasons.append(
            f"the page's clock steps by {step_ms:g} ms, {step_ms / middle:.1%} of the median, {cfg.half_width:.1%} allowed "
            "(half_width); over https or on localhost it steps by 0.005 ms"
        )
    change = drift(samples_ms)
    if abs(change) > cfg.validity.max_drift:
        reasons.append(
            f"the median moved by {change:+.1%} from the first to the last quarter, "
            f"{cfg.validity.max_drift:.1%} allowed; warm up longer (warmup in {where}) or let the "
            "machine cool down"
        )
    return reasons + _machine_reasons(conditions, duration_s, cfg.validity)
