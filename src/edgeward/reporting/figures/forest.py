"""Differences between compressed and reference model, class by class."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from edgeward.core import svg
from edgeward.core.palette import LIGHT, SYMBOLS
from edgeward.core.text import fixed
from edgeward.records.base import Interval
from edgeward.records.safety import EndpointRow
from edgeward.reporting.figures.common import Groups, Key, errors, note, number, panels
from edgeward.reporting.load import Candidate


@dataclass(frozen=True)
class Line:
    """One difference: what it is of, its interval and, where it is one, its endpoint."""

    label: str
    value: Interval
    endpoint: EndpointRow | None


def lines_of(candidate: Candidate) -> list[Line]:
    """Return the differences of a candidate that its panel shows, all on the scale 0 to 1.

    The classes, then what else the task has drawn.
    """
    task, verdict = candidate.task, candidate.verdict
    of = f"{task.metric(task.class_difference).title}, " if task.drawn else ""
    changes = {change.name: change.difference for change in verdict.per_class}
    lines = [
        _line(
            f"{of}{'★ ' if row.rare else ''}{'▲ ' if row.critical else ''}{row.name} (n={row.n})",
            changes.get(row.name, Interval()),
            next(
                (e for e in verdict.endpoints if e.class_name == row.name and e.floor is None), None
            ),
        )
        for row in candidate.safety.per_class
    ]
    for metric in map(task.metric, task.drawn):
        if metric.name == task.class_difference and len(lines) == 1:
            continue  # the same again
        value = candidate.difference(metric.name)
        n = "" if metric.of == "cases" else f" (n={candidate.metric(metric.name).n})"
        endpoint = next((e for e in verdict.endpoints if e.metric == metric.name), None)
        if value.known or endpoint:
            lines.append(_line(f"{metric.label}{n}", value, endpoint))
    return lines


def _line(label: str, difference: Interval, endpoint: EndpointRow | None) -> Line:
    """Return a line with the difference, the endpoint's where it has one."""
    own = endpoint.difference if endpoint else Interval()
    return Line(label, own if own.known else difference, endpoint)


def forest(groups: Groups, key: Key) -> str:
    """Draw the differences per class, a panel per compressed candidate."""
    compressed = [c for members in groups.values() for c in members if not c.is_reference]
    shown = [lines_of(c) for c in compressed]
    most = max(map(len, shown), default=3)
    figure, grid = panels(len(compressed), columns=4, height=1.15 + 0.27 * most)
    if not compressed:
        note(grid[0], "No compressed candidate in this sweep.")
        return svg.standalone(figure, "No compressed candidate: no differences to show.")
    reach = _reach([line for lines in shown for line in lines])
    for axes, candidate, lines in zip(grid, compressed, shown, strict=False):
        _forest_panel(axes, lines, reach)
        task = candidate.task
        measure = "" if task.drawn else f" in {task.metric(task.class_difference).label}"
        where = "" if len(groups) == 1 else f"{candidate.data}: "
        seed = f" · seed {candidate.seed}" if key.several_seeds else ""
        axes.set_xlabel(f"Difference{measure}")
        axes.set_title(f"{where}{candidate.model}\n{candidate.recipe}{seed}\n", fontsize=8.5)
        axes.text(0, 1.02, f"{SYMBOLS[candidate.outcome]} {candidate.outcome}", va="bottom",
                  transform=axes.transAxes, color=LIGHT[candidate.outcome], weight="bold")  # fmt: skip
    alt = ". ".join(
        f"{key.label(c)}: "
        + ", ".join(f"{line.label} {fixed(line.value.estimate, signed=True)}" for line in lines)
        for c, lines in zip(compressed, shown, strict=True)
    )
    return svg.standalone(figure, f"Compressed minus reference, per class. {alt}.")


def _reach(lines: list[Line]) -> float:
    """Return the largest distance from zero that any panel must show."""
    values = [line.value for line in lines]
    ends = [abs(x) for v in values for x in (v.estimate, v.low, v.high) if x is not None]
    margins = [abs(line.endpoint.margin) for line in lines if line.endpoint]
    return 1.08 * max([*ends, *margins, 0.05])


def _forest_panel(axes: Axes, lines: list[Line], reach: float) -> None:
    markers = {"pass": "o", "fail": "X", "inconclusive": "D", None: "o"}
    axes.axvline(0, color=LIGHT["muted"], lw=0.9, zorder=1)
    for row, line in enumerate(lines):
        outcome = line.endpoint.outcome if line.endpoint else None
        colour = LIGHT[outcome] if outcome in SYMBOLS else LIGHT["muted"]
        if line.endpoint:
            axes.plot([-abs(line.endpoint.margin)] * 2, [row - 0.42, row + 0.42],
                      color=LIGHT["fail"], lw=1.3, ls=(0, (2, 1.2)), zorder=2)  # fmt: skip
        if not line.value.known:
            axes.text(0.012, row, "not available", va="center", color=LIGHT["muted"], fontsize=7.5)
            continue
        axes.errorbar([number(line.value.estimate)], [row], xerr=errors(line.value),
                      fmt=markers.get(outcome, "o"), color=colour, ms=5 if line.endpoint else 3.6,
                      elinewidth=1.4, capsize=2, zorder=3)  # fmt: skip
    axes.set_yticks(range(len(lines)), [line.label for line in lines])
    axes.set(xlim=(-reach, reach), ylim=(len(lines) - 0.4, -0.6))
    axes.xaxis.set_major_locator(MaxNLocator(5, symmetric=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: fixed(v, 2, signed=True)))
    axes.grid(False, axis="y")
