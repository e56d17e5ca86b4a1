"""Differences in sensitivity per class."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from edgeward.reporting import svg
from edgeward.reporting.figures.common import Groups, Key, errors, note, number, panels
from edgeward.reporting.load import Candidate
from edgeward.reporting.numbers import Interval, fixed, interval
from edgeward.reporting.palette import LIGHT, SYMBOLS


def class_difference(candidate: Candidate, name: str) -> Interval:
    """Return compressed minus reference sensitivity of a class with its interval."""
    return candidate.difference(f"recall_{name}")


def class_endpoint(candidate: Candidate, name: str) -> dict[str, Any] | None:
    """Return the non-inferiority endpoint on the sensitivity of a class, if there is one."""
    for endpoint in candidate.verdict["endpoints"]:
        if endpoint.get("class") == name:
            return dict(endpoint)
    return None


def forest(groups: Groups, key: Key) -> str:
    """Draw per-class sensitivity differences, a panel per compressed candidate."""
    compressed = [c for members in groups.values() for c in members if not c.is_reference]
    most = max((len(c.safety["per_class"]) for c in compressed), default=3)
    figure, grid = panels(len(compressed), columns=4, height=1.15 + 0.27 * most)
    if not compressed:
        note(grid[0], "No compressed candidate in this sweep.")
        return svg.standalone(figure, "No compressed candidate: no differences to show.")
    reach = _reach(compressed)
    for axes, candidate in zip(grid, compressed, strict=False):
        _forest_panel(axes, candidate, reach)
        where = "" if len(groups) == 1 else f"{candidate.data}: "
        seed = f" · seed {candidate.seed}" if key.several_seeds else ""
        axes.set_title(f"{where}{candidate.model}\n{candidate.recipe}{seed}\n", fontsize=8.5)
        axes.text(0, 1.02, f"{SYMBOLS[candidate.outcome]} {candidate.outcome}", va="bottom",
                  transform=axes.transAxes, color=LIGHT[candidate.outcome], weight="bold")  # fmt: skip
    alt = ". ".join(
        f"{key.label(c)}: "
        + ", ".join(
            f"{e['class']} {fixed(class_difference(c, e['class']).estimate, signed=True)}"
            for e in c.safety["per_class"]
        )
        for c in compressed
    )
    return svg.standalone(figure, f"Sensitivity per class, compressed minus reference. {alt}.")


def _reach(compressed: list[Candidate]) -> float:
    """Return the largest distance from zero that any panel must show."""
    shown = [_shown(c, e["class"])[0] for c in compressed for e in c.safety["per_class"]]
    ends = [abs(x) for v in shown for x in (v.estimate, v.low, v.high) if x is not None]
    margins = [abs(e["margin"]) for c in compressed for e in c.verdict["endpoints"] if e["class"]]
    return 1.08 * max([*ends, *margins, 0.05])


def _shown(candidate: Candidate, name: str) -> tuple[Interval, dict[str, Any] | None]:
    """Return the difference of a class (the endpoint's where it is one) and its endpoint."""
    endpoint = class_endpoint(candidate, name)
    if endpoint and interval(endpoint["difference"]).known:
        return interval(endpoint["difference"]), endpoint
    return class_difference(candidate, name), endpoint


def _forest_panel(axes: Axes, candidate: Candidate, reach: float) -> None:
    entries = candidate.safety["per_class"]
    markers = {"pass": "o", "fail": "X", "inconclusive": "D", None: "o"}
    axes.axvline(0, color=LIGHT["muted"], lw=0.9, zorder=1)
    for row, entry in enumerate(entries):
        value, endpoint = _shown(candidate, entry["class"])
        outcome = endpoint["outcome"] if endpoint else None
        colour = LIGHT[outcome] if outcome in SYMBOLS else LIGHT["muted"]
        if endpoint:
            axes.plot([-abs(endpoint["margin"])] * 2, [row - 0.42, row + 0.42],
                      color=LIGHT["fail"], lw=1.3, ls=(0, (2, 1.2)), zorder=2)  # fmt: skip
        if not value.known:
            axes.text(0.012, row, "not available", va="center", color=LIGHT["muted"], fontsize=7.5)
            continue
        axes.errorbar([number(value.estimate)], [row], xerr=errors(value), fmt=markers.get(outcome, "o"),
                      color=colour, ms=5 if endpoint else 3.6, elinewidth=1.4, capsize=2, zorder=3)  # fmt: skip
    axes.set_yticks(
        range(len(entries)),
        [f"{'★ ' if e.get('rare') else ''}{e['class']} (n={e['n']})" for e in entries],
    )
    axes.set(
        xlim=(-reach, reach), ylim=(len(entries) - 0.4, -0.6), xlabel="Difference in sensitivity"
    )
    axes.xaxis.set_major_locator(MaxNLocator(5, symmetric=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: fixed(v, 2, signed=True)))
    axes.grid(False, axis="y")
