"""Time and memory of whole volumes against their size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from edgeward.core import svg
from edgeward.core.palette import LIGHT
from edgeward.core.text import fixed, short
from edgeward.tasks.segmentation.volumes import Whole


def draw(wholes: Sequence[Whole]) -> str:
    """Draw seconds and MB per volume against voxels, log-log, a line per candidate.

    A marker at the median test volume, hollow where the timing is INVALID. Of several seeds the
    first, of several devices all.
    """
    lines = list(
        {
            (w.candidate.model, w.candidate.recipe, w.profile.device): w for w in wholes[::-1]
        }.values()
    )[::-1]
    with svg.style():
        figure = Figure(figsize=(svg.WIDTH, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        for axes, title, unit in (
            (left, "Time of all windows", "s per volume"),
            (right, "Memory: engine's peak and arrays", "MB"),
        ):
            for whole in lines:
                _line(axes, whole, memory=axes is right)
            axes.set(
                xscale="log", yscale="log", title=title, xlabel="Voxels of the volume", ylabel=unit
            )
            axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: short(v)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_minor_formatter(NullFormatter())
        figure.legend(handles=_legend(lines), loc="outside right upper", borderaxespad=0)
        said = "; ".join(
            f"{w.candidate.model} {w.candidate.recipe} on {w.profile.device}: "
            f"{fixed(w.seconds(w.median).estimate, 2)} s, {fixed(w.memory_mb(w.median), 0)} MB"
            for w in lines
        )
        return svg.standalone(figure, f"A volume of median size: {said}.")


def _line(axes: Axes, whole: Whole, *, memory: bool) -> None:
    def value(shape: tuple[int, ...]) -> float:
        estimate = whole.memory_mb(shape) if memory else whole.seconds(shape).estimate
        return math.nan if estimate is None else estimate

    shapes, colour = whole.growing(), LIGHT[whole.candidate.colour]
    axes.plot([prod(s) for s in shapes], [value(s) for s in shapes], color=colour, lw=1.2)
    axes.plot([prod(whole.median)], [value(whole.median)], whole.candidate.marker,
              color=colour, ms=6.5, mfc=colour if whole.valid else LIGHT["surface"])  # fmt: skip


def _legend(lines: Sequence[Whole]) -> list[Line2D]:
    ink = LIGHT["muted"]
    markers = {w.candidate.model: w.candidate.marker for w in lines}
    colours = {w.candidate.recipe: LIGHT[w.candidate.colour] for w in lines}
    handles = [Line2D([], [], ls="", marker=k, color=ink, label=m) for m, k in markers.items()]
    handles += [Line2D([], [], lw=2.4, color=colour, label=r) for r, colour in colours.items()]
    if not all(w.valid for w in lines):
        handles.append(Line2D([], [], ls="", marker="o", color=ink, mfc=LIGHT["surface"],
                              label="timing INVALID"))  # fmt: skip
    return handles
