"""Non-inferiority: per endpoint pass, fail or inconclusive, and the verdict of all of them."""

from __future__ import annotations

from typing import Any, Literal

from edgeward.core.errors import UserError

Outcome = Literal["pass", "fail", "inconclusive"]
# No exact paired test reaches p < 0.05 with fewer one-way changes, so no bootstrap may claim to.
_FEWEST_GROUPS = 6


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


def endpoint(
    *,
    name: str,
    metric: str,
    margin: float,
    direction: str,
    reference: dict[str, Any],
    compressed: dict[str, Any],
    difference: dict[str, Any],
    n: int,
    n_groups: int,
    cases_needed: int | None,
    doubts: list[str],
    class_name: str | None = None,
    fewest_groups: int | None = None,
    unit: str = "images",
) -> dict[str, Any]:
    """Judge one endpoint and say why in plain words.

    Parameters
    ----------
    name, metric, class_name : what is compared.
    margin, direction : as for `judge`.
    reference, compressed, difference : interval records.
    n, n_groups : images and groups behind it.
    cases_needed : images that would be needed if nothing were lost; None if that cannot be said.
    doubts : reasons why a pass would not be evidence; any of them makes it inconclusive.
    fewest_groups : groups that limit a bootstrap interval, which needs a few even to fail.
    unit : what `n` counts.
    """
    low, high = difference["low"], difference["high"]
    outcome = judge(low, high, margin, direction)
    if (fewest_groups is not None and fewest_groups < _FEWEST_GROUPS) or (
        doubts and outcome == "pass"
    ):
        outcome = "inconclusive"
    sign = "-" if direction == "higher" else "+"
    if n:
        fact = (
            f"{name}: {reference['estimate']:.3f} -> {compressed['estimate']:.3f}, difference "
            f"{difference['estimate']:+.3f} [{low:+.3f}, {high:+.3f}], margin {sign}{margin:g}: "
        )
    else:
        fact = f"{name}: "
    if outcome == "pass":
        why = "within the margin"
    elif outcome == "fail":
        beyond = high < -margin if direction == "higher" else low > margin
        why = (
            "worse by more than the margin"
            if beyond
            else "worse, and not shown to be within the margin"
        )
    else:
        why = (
            "; ".join(doubts) or "the data show neither a loss nor that it stays within the margin"
        )
        of = f"{unit} of {class_name}" if class_name else f"test {unit} of the same mix"
        if cases_needed is not None and cases_needed > n:
            why += f"; about {cases_needed} {of} would be needed (there are {n})"
        elif cases_needed is not None and not doubts:
            why += f"; there are enough {of}, had nothing been lost, so a real loss is possible"
    more = outcome == "inconclusive" and cases_needed is not None and cases_needed > n
    return {
        "name": name,
        "metric": metric,
        "class": class_name,
        "margin": margin,
        "direction": direction,
        "reference": reference,
        "compressed": compressed,
        "difference": difference,
        "n": n,
        "n_groups": n_groups,
        "outcome": outcome,
        "reason": fact + why + ".",
        "cases_needed": cases_needed if more else None,
    }


def overall(endpoints: list[dict[str, Any]]) -> tuple[Outcome, list[str]]:
    """Combine endpoints: any fail fails; else any inconclusive is inconclusive; else pass.

    All must pass, so the chance of a wrong pass is at most that of a single one, whatever their number
    and correlation (intersection-union test: Berger, Technometrics 24 (1982) 295-300).
    """
    if not endpoints:
        raise UserError("A verdict needs at least one endpoint; the safety config asks for none.")
    found = {row["outcome"] for row in endpoints}
    verdict: Outcome = "pass"
    if "fail" in found:
        verdict = "fail"
    elif "inconclusive" in found:
        verdict = "inconclusive"
    if verdict == "pass":
        return verdict, [f"All {len(endpoints)} endpoints are within their margins."]
    order = ["fail", "inconclusive"]
    rows = sorted(
        (r for r in endpoints if r["outcome"] != "pass"), key=lambda r: order.index(r["outcome"])
    )
    return verdict, [f"{row['outcome']}: {row['reason']}" for row in rows]
