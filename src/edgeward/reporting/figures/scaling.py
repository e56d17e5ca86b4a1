"""Latency and memory of untrained networks against input size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from edgeward.core import svg
from edgeward.core.palette import LIGHT, series
from edgeward.core.text import milliseconds
from edgeward.reporting.figures.common import MARKERS, WIDTH, logarithmic, note
from edgeward.reporting.scaling import Cell, Crossover, lines

COLOURS = {"cnn": LIGHT[series(1)], "hybrid": LIGHT[series(2)], "ssm": LIGHT[series(4)]}


def scaling(cells: Sequence[Cell], crossings: Sequence[Crossover]) -> str:
    """Draw p50 latency (ms) and peak memory (MB) against the side of the image, log-log.

    A line per model, coloured by family; hollow where the timing is INVALID; a ring where two
    models cross beyond their intervals.
    """
    with svg.style():
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        _panel(left, cells, lambda cell: cell.p50.estimate)
        left.set(title="Median latency", ylabel="ms per image")
        for crossing in crossings:
            if crossing.shown:
                left.plot([crossing.size], [crossing.ms], "o", ms=10, mfc="none",
                          mec=LIGHT["ink"], mew=1.1, zorder=4)  # fmt: skip
        _panel(right, cells, lambda cell: cell.peak_memory_mb)
        right.set(title="Peak memory", ylabel="MB above the process before loading")
        figure.legend(handles=_legend(cells, crossings), loc="outside right upper", borderaxespad=0)
        said = "; ".join(
            f"{model} ({mine[0].family}): "
            + ", ".join(f"{milliseconds(c.p50.estimate)} ms at {c.size}" for c in mine)
            for model, mine in lines(cells).items()
            if mine
        )
        return svg.standalone(figure, f"Latency against input size. {said or 'Nothing measured'}.")


def _marker(cells: Sequence[Cell], model: str) -> str:
    models = list(dict.fromkeys(cell.model for cell in cells))
    return MARKERS[models.index(model) % len(MARKERS)]


def _panel(axes: Axes, cells: Sequence[Cell], value: Callable[[Cell], float | None]) -> None:
    drawn = False
    for model, mine in lines(cells).items():
        points = [(cell.size, y, cell.valid) for cell in mine if (y := value(cell))]
        if not points:
            continue
        drawn = True
        colour = COLOURS[mine[0].family]
        axes.plot([x for x, _, _ in points], [y for _, y, _ in points], color=colour, lw=1.3)
        for x, y, valid in points:
            axes.plot([x], [y], _marker(cells, model), color=colour, ms=6, mew=1.2,
                      mfc=colour if valid else LIGHT["surface"])  # fmt: skip
    if not drawn:
        note(axes, "Nothing was measured.")
        return
    axes.set(xscale="log", yscale="log", xlabel="Side of the image, pixels")
    axes.margins(0.06)
    logarithmic(axes.xaxis)
    axes.xaxis.set_major_locator(FixedLocator(sorted({cell.size for cell in cells})))
    logarithmic(axes.yaxis)


def _legend(cells: Sequence[Cell], crossings: Sequence[Crossover]) -> list[Line2D]:
    ink = LIGHT["muted"]
    families = {cell.model: cell.family for cell in cells}
    handles = [
        Line2D([], [], lw=1.3, marker=_marker(cells, model), ms=6, color=COLOURS[family],
               label=f"{model} ({family})")
        for model, family in families.items()
    ]  # fmt: skip
    if any(cell.p50.known and not cell.valid for cell in cells):
        handles.append(Line2D([], [], ls="", marker="o", color=ink, mfc=LIGHT["surface"],
                              label="timing INVALID"))  # fmt: skip
    if any(crossing.shown for crossing in crossings):
        handles.append(Line2D([], [], ls="", marker="o", ms=9, mfc="none", mec=LIGHT["ink"],
                              label="crossover"))  # fmt: skip
    return handles
