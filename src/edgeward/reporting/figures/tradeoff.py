"""Latency against the metric that a task is judged by first."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from edgeward.core import svg
from edgeward.core.palette import LIGHT, SYMBOLS
from edgeward.core.text import fixed, listing, milliseconds, plural
from edgeward.records.base import Interval
from edgeward.reporting.figures.common import (
    WIDTH,
    Groups,
    Key,
    errors,
    logarithmic,
    note,
    number,
    per_device,
)
from edgeward.reporting.load import Candidate, Timing


def pareto(points: list[tuple[float, float]]) -> list[int]:
    """Return the indices of the points that no other beats, by ascending first coordinate.

    Parameters
    ----------
    points : (cost, gain) pairs; less cost and more gain are better.
    """
    front: list[int] = []
    best = -math.inf
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[i][1] > best:
            front.append(i)
            best = points[i][1]
    return front


def quality(candidate: Candidate) -> Interval:
    """Return the metric that its task is judged by first."""
    return candidate.metric(candidate.task.primary)


def trade_off(groups: Groups, key: Key) -> str:
    """Draw p50 latency (ms) against the task's primary metric, a panel per data set and device."""
    panels = per_device(groups)
    figure = Figure(figsize=(WIDTH * 0.82, 3.9 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (data, device, members) in zip(grid, panels, strict=True):
        _trade_off_panel(axes, data, device, members, key)
    alt = " ".join(_describe_trade_off(*panel) for panel in panels)
    names = listing(list(dict.fromkeys(m[0].primary.label for m in groups.values())))
    return svg.standalone(figure, f"Median latency against {names}. {alt}")


def _measured(device: str | None, members: list[Candidate]) -> list[tuple[Candidate, Timing]]:
    return [
        (c, timing)
        for c in members
        if (timing := c.timing(device)) and timing.p50.known and quality(c).known
    ]


def _describe_trade_off(data: str, device: str | None, members: list[Candidate]) -> str:
    points = _measured(device, members)
    if not points:
        return f"{data}: nothing measured."
    fastest = min(points, key=lambda point: number(point[1].p50.estimate))
    best = max(points, key=lambda point: number(quality(point[0]).estimate))
    front = [points[i] for i in _front(points)]
    ends = "; ".join(
        f"{what} is {_place(*point)}" for what, point in (("fastest", fastest), ("best", best))
    )
    said = f" The Pareto front: {', '.join(_place(*p) for p in front)}." if front else ""
    return f"{data} on {device}, {plural(len(points), 'candidate')}: {ends}.{said}"


def _place(c: Candidate, t: Timing) -> str:
    where = f"{milliseconds(t.p50.estimate)} ms at {fixed(quality(c).estimate)}"
    return f"{c.model} {c.recipe} seed {c.seed} ({where}, {c.outcome})"


def _front(points: list[tuple[Candidate, Timing]]) -> list[int]:
    """Return the indices of the Pareto front of what may be used: references and passes with a VALID timing."""
    usable = [
        i for i, (c, t) in enumerate(points) if t.valid and c.outcome in ("reference", "pass")
    ]
    front = [usable[i] for i in pareto([_position(*points[i]) for i in usable])]
    return front if len(front) > 1 else []


def _trade_off_panel(
    axes: Axes, data: str, device: str | None, members: list[Candidate], key: Key
) -> None:
    points = _measured(device, members)
    threads = {t.setting.threads for _, t in points}
    setting = f", {plural(next(iter(threads)), 'thread')}" if len(threads) == 1 else ""
    primary = members[0].primary
    n = quality(members[0]).n
    sample = "" if n is None else f"; {n} {primary.of}"
    axes.set_title(f"{data} on {device}{setting}{sample}" if device else data)
    if not points:
        note(axes, f"No candidate has both a latency and a value of {primary.label}.")
        return
    for candidate, timing in points:
        _point(axes, candidate, timing, key)
    front = [_position(*points[i]) for i in _front(points)]
    if front:
        axes.plot(*zip(*front, strict=True), ls=(0, (2, 2)), color=LIGHT["muted"], lw=1, zorder=1)
    _latency_axis(axes, [_position(c, t)[0] for c, t in points])
    axes.margins(x=0.1, y=0.14)
    what = (
        "image"
        if members[0].card.spatial_dims == 2
        else "patch"
        if members[0].task.dense
        else "volume"
    )
    axes.set(xlabel=f"Latency per {what}, ms (marker: median with interval; tick: p90)",
             ylabel=primary.label[0].upper() + primary.label[1:])  # fmt: skip
    _trade_off_legend(axes, points, key, front=bool(front))


def _position(candidate: Candidate, timing: Timing) -> tuple[float, float]:
    return number(timing.p50.estimate), number(quality(candidate).estimate)


def _point(axes: Axes, candidate: Candidate, timing: Timing, key: Key) -> None:
    x, y = _position(candidate, timing)
    tail = number(timing.latency("p90").estimate)
    colour = key.colours[candidate.recipe]
    axes.plot([x, tail], [y, y], color=colour, lw=0.9, alpha=0.55, zorder=2)
    axes.plot([tail], [y], "|", color=colour, ms=6, alpha=0.7, zorder=2)
    axes.errorbar(
        [x], [y], errors(quality(candidate)), errors(timing.p50),
        fmt=key.markers[candidate.model], color=colour, ms=7.5, elinewidth=1.2, capsize=2.5,
        mfc=colour if timing.valid else LIGHT["surface"], mec=colour, mew=1.3, zorder=3,
    )  # fmt: skip
    if not candidate.is_reference:
        axes.annotate(SYMBOLS[candidate.outcome], (x, y), xytext=(5, 4), textcoords="offset points",
                      color=LIGHT[candidate.outcome], fontsize=8, weight="bold", zorder=4)  # fmt: skip


def _latency_axis(axes: Axes, values: list[float]) -> None:
    if max(values) > 8 * min(values) > 0:
        axes.set_xscale("log")
        logarithmic(axes.xaxis)


def _trade_off_legend(
    axes: Axes, points: list[tuple[Candidate, Timing]], key: Key, *, front: bool
) -> None:
    def dot(label: str, marker: str, colour: str, fill: str) -> Line2D:
        return Line2D([], [], ls="", marker=marker, color=colour, mfc=fill, mec=colour, label=label)

    ink = LIGHT["muted"]
    members = [c for c, _ in points]
    handles = [dot(m, key.markers[m], ink, ink) for m in dict.fromkeys(c.model for c in members)]
    handles += [
        Line2D([], [], lw=4, color=key.colours[recipe], label=recipe)
        for recipe in dict.fromkeys(c.recipe for c in members)
    ]
    if not all(t.valid for _, t in points):
        handles.append(dot("timing INVALID", "o", ink, LIGHT["surface"]))
    if front:
        handles.append(Line2D([], [], ls=(0, (2, 2)), lw=1, color=ink, label="Pareto front"))
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
