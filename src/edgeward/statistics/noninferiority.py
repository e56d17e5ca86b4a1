"""Non-inferiority: per endpoint pass, fail or inconclusive, and the verdict of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgeward.core.errors import UserError
from edgeward.records.base import Interval
from edgeward.records.safety import EndpointRow, Outcome
from edgeward.statistics.intervals import z_value

Direction = Literal["higher", "lower"]
# No exact paired test reaches p < 0.05 with fewer one-way changes, so no bootstrap may claim to.
_FEWEST_GROUPS = 6


@dataclass(frozen=True)
class Endpoint:
    """What must not get worse by more than a margin: a metric of all cases, or of a subset of them.

    Attributes
    ----------
    name : in a sentence.
    metric : name of the metric.
    margin : positive, in the unit of the metric.
    direction : which is better.
    n, n_groups : cases (or what `unit` says) and groups behind it.
    subset : name of the subset; None: all cases.
    doubts : reasons why a pass would not be evidence; any of them makes a pass inconclusive.
    hopeless : whether more cases would not help.
    unit : what `n` counts.
    """

    name: str
    metric: str
    margin: float
    direction: Direction
    n: int
    n_groups: int
    subset: str | None = None
    doubts: tuple[str, ...] = ()
    hopeless: bool = False
    unit: str = "cases"


def judge(low: float, high: float, margin: float, direction: str) -> Outcome:
    """Judge a difference (compressed - reference) by its interval.

    Pass: worse by less than the margin at worst. Fail: worse by more than the margin at best; or worse
    for sure, and not shown to be within the margin. Otherwise inconclusive.

    Parameters
    ----------
    low, high : limits of the difference; NaN is inconclusive.
    margin : positive, in the unit of the difference.
    direction : "higher" if higher is better, else "lower".
    """
    if direction not in ("higher", "lower"):
        raise ValueError(f"direction {direction!r}")
    worst, best = (low, high) if direction == "higher" else (-high, -low)
    if worst > -margin:
        return "pass"
    if best < 0:
        return "fail"
    return "inconclusive"


def scaled_cases(
    difference: Interval, margin: float, n: int, level: float, power: float
) -> int | None:
    """Return the cases of the same mix with which the half width would fit the margin with the wanted power.

    Parameters
    ----------
    difference : found with `n` cases. level, power : of the interval, and chance of a pass without any loss.
    """
    _, low, high = difference
    half = (high - low) / 2
    if not np.isfinite(half) or half <= 0:
        return None
    factor = (half / z_value(level) * (z_value(level) + z_value(2 * power - 1)) / margin) ** 2
    return int(np.ceil(n * factor))


def judged(
    endpoint: Endpoint,
    *,
    reference: Interval,
    compressed: Interval,
    difference: Interval,
    cases_needed: int | None,
    fewest_groups: int | None,
) -> EndpointRow:
    """Judge one endpoint and say why in plain words.

    Parameters
    ----------
    cases_needed : that would be needed if nothing were lost; None if that cannot be said.
    fewest_groups : groups that limit a bootstrap interval, which needs a few even to fail; None of other intervals.
    """
    e, doubts = endpoint, endpoint.doubts
    change, low, high = difference
    outcome = judge(low, high, e.margin, e.direction)
    if (fewest_groups is not None and fewest_groups < _FEWEST_GROUPS) or (
        doubts and outcome == "pass"
    ):
        outcome = "inconclusive"
    sign = "-" if e.direction == "higher" else "+"
    fact = f"{e.name}: "
    if e.n:
        fact += (
            f"{next(iter(reference)):.3f} -> {next(iter(compressed)):.3f}, difference "
            f"{change:+.3f} [{low:+.3f}, {high:+.3f}], margin {sign}{e.margin:g}: "
        )
    if outcome == "pass":
        why = "within the margin"
    elif outcome == "fail":
        beyond = high < -e.margin if e.direction == "higher" else low > e.margin
        why = (
            "worse by more than the margin"
            if beyond
            else "worse, and not shown to be within the margin"
        )
    else:
        why = (
            "; ".join(doubts) or "the data show neither a loss nor that it stays within the margin"
        )
        of = f"{e.unit} of {e.subset}" if e.subset else f"test {e.unit} of the same mix"
        if cases_needed is not None and cases_needed > e.n:
            why += f"; about {cases_needed} {of} would be needed (there are {e.n})"
        elif cases_needed is not None and not doubts:
            why += f"; there are enough {of}, had nothing been lost, so a real loss is possible"
    more = outcome == "inconclusive" and cases_needed is not None and cases_needed > e.n
    return EndpointRow(
        name=e.name,
        metric=e.metric if e.subset is None else f"{e.metric}_{e.subset}",
        class_name=e.subset,
        margin=e.margin,
        direction=e.direction,
        reference=reference,
        compressed=compressed,
        difference=difference,
        n=e.n,
        n_groups=e.n_groups,
        outcome=outcome,
        reason=fact + why + ".",
        cases_needed=cases_needed if more else None,
    )


def overall(endpoints: Sequence[EndpointRow]) -> tuple[Outcome, list[str]]:
    """Combine endpoints: any fail fails; else any inconclusive is inconclusive; else pass.

    All must pass, so the chance of a wrong pass is at most that of a single one, whatever their number
    and correlation (intersection-union test: Berger, Technometrics 24 (1982) 295-300).
    """
    if not endpoints:
        raise UserError("A verdict needs at least one endpoint; the safety config asks for none.")
    worst: tuple[Outcome, ...] = ("fail", "inconclusive")
    for verdict in worst:
        if any(row.outcome == verdict for row in endpoints):
            break
    else:
        return "pass", [f"All {len(endpoints)} endpoints are within their margins."]
    rows = sorted(
        (r for r in endpoints if r.outcome != "pass"), key=lambda r: worst.index(r.outcome)
    )
    return verdict, [f"{row.outcome}: {row.reason}" for row in rows]
