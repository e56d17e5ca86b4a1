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
    floor : if given, the compressed model's own value must not lie beyond it, whatever the reference's is; the margin
        is then of no account.
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
    floor: float | None = None


def judge(low: float, high: float, margin: float, direction: str) -> Outcome:
    """Judge a difference (compressed - reference) by its interval.

    Pass: worse by less than the margin at worst. Fail: worse by more than the margin at best. Otherwise the interval
    holds the margin, and it is inconclusive, also where zero is excluded: worse for sure, by how much is open. So in the
    CONSORT statement for non-inferiority trials (Piaggio et al., JAMA 308 (2012) 2594-2604, figure 1).

    Parameters
    ----------
    low, high : limits of the difference; NaN is inconclusive.
    margin : not negative, in the unit of the difference.
    direction : "higher" if higher is better, else "lower".
    """
    if direction not in ("higher", "lower"):
        raise ValueError(f"direction {direction!r}")
    worst, best = (low, high) if direction == "higher" else (-high, -low)
    if worst > -margin:
        return "pass"
    if best < -margin:
        return "fail"
    return "inconclusive"


def surely_worse(low: float, high: float, direction: str) -> bool:
    """Tell whether a difference (compressed - reference) excludes zero on the side of harm."""
    return high < 0 if direction == "higher" else low > 0


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


def cases_above(share: Interval, floor: float, level: float, power: float) -> int | None:
    """Return the cases with which a share that is what was found would probably be shown to lie above a floor.

    The usual sample size of one proportion, ``((z_level sqrt(f (1-f)) + z_power sqrt(p (1-p))) / (p - f))^2``
    (Fleiss, Statistical Methods for Rates and Proportions, 1981, section 2.4), times the design effect; None if the share
    found is not above it.
    """
    p = share.estimate
    if p is None or p <= floor:
        return None
    spread = z_value(level) * np.sqrt(floor * (1 - floor))
    spread += z_value(2 * power - 1) * np.sqrt(p * (1 - p))
    return int(np.ceil((spread / (p - floor)) ** 2 * (share.design_effect or 1.0)))


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
    _, low, high = difference
    worse = e.floor is None and surely_worse(low, high, e.direction)
    if e.floor is None:
        outcome = judge(low, high, e.margin, e.direction)
    else:
        _, down, up = compressed
        outcome = judge(down - e.floor, up - e.floor, 0.0, e.direction)
    if (fewest_groups is not None and fewest_groups < _FEWEST_GROUPS) or (
        doubts and outcome == "pass"
    ):
        outcome = "inconclusive"
    more = outcome == "inconclusive" and cases_needed is not None and cases_needed > e.n
    fact = f"{e.name}: " + (_seen(e, reference, compressed, difference) if e.n else "")
    return EndpointRow(
        name=e.name,
        metric=e.metric if e.subset is None else f"{e.metric}_{e.subset}",
        class_name=e.subset,
        margin=e.margin,
        floor=e.floor,
        direction=e.direction,
        reference=reference,
        compressed=compressed,
        difference=difference,
        n=e.n,
        n_groups=e.n_groups,
        outcome=outcome,
        surely_worse=worse,
        reason=f"{fact}{_why(e, outcome, worse, cases_needed)}.",
        cases_needed=cases_needed if more else None,
    )


def _seen(e: Endpoint, reference: Interval, compressed: Interval, difference: Interval) -> str:
    """Say what was found."""
    (before, *_), (after, down, up), (change, low, high) = reference, compressed, difference
    if e.floor is not None:
        side = "least" if e.direction == "higher" else "most"
        return f"{after:.3f} [{down:.3f}, {up:.3f}], {side} allowed {e.floor:g}: "
    sign = "-" if e.direction == "higher" else "+"
    return (
        f"{before:.3f} -> {after:.3f}, difference {change:+.3f} [{low:+.3f}, {high:+.3f}], "
        f"margin {sign}{e.margin:g}: "
    )


def _why(e: Endpoint, outcome: Outcome, worse: bool, cases_needed: int | None) -> str:
    """Say why in plain words."""
    if outcome == "pass":
        within = "within the margin" if e.floor is None else "not beyond it"
        return f"{within}, though worse for sure" if worse else within
    if outcome == "fail":
        return "worse by more than the margin" if e.floor is None else "beyond it for sure"
    why = "; ".join(e.doubts)
    if worse:
        why = "; ".join([*e.doubts, "worse for sure, by how much is open"])
    elif not why and e.floor is not None:
        why = "the data do not decide"
    elif not why:
        why = "the data show neither a loss nor that it stays within the margin"
    of = f"{e.unit} of {e.subset}" if e.subset else f"test {e.unit} of the same mix"
    if cases_needed is not None and cases_needed > e.n:
        why += f"; about {cases_needed} {of} would be needed (there are {e.n})"
    elif cases_needed is not None and not e.doubts and not worse:
        why += f"; there are enough {of}, had nothing been lost, so a real loss is possible"
    return why


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
