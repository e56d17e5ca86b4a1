"""What all figures share: colours and markers, error bars, grids of panels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from edgeward.core.palette import LIGHT, series
from edgeward.core.svg import WIDTH
from edgeward.records.base import Interval
from edgeward.reporting.load import Candidate
from edgeward.reporting.sweep import devices_of

Groups = dict[str, list[Candidate]]
MARKERS = "osD^vPXhp<>*"
DASHES = ((0, ()), (0, (5, 1.4)), (0, (1.2, 1.2)), (0, (5, 1.4, 1.2, 1.4)))


class Key:
    """Colours and dashes for recipes, colours and markers for models, the same in all figures of a sweep.

    Nothing is told by colour alone.
    """

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        everyone = list(candidates)
        neutral = dict.fromkeys(c.recipe for c in everyone if c.is_reference)
        others = dict.fromkeys(c.recipe for c in everyone if c.recipe not in neutral)
        models = dict.fromkeys(c.model for c in everyone)
        self.names: dict[str, str] = dict.fromkeys(neutral, series(0))
        self.names |= {recipe: series(i + 1) for i, recipe in enumerate(others)}
        self.colours = {recipe: LIGHT[name] for recipe, name in self.names.items()}
        recipes = enumerate(self.names)
        self.dashes = {recipe: DASHES[i % len(DASHES)] for i, recipe in recipes}
        self.markers = {model: MARKERS[i % len(MARKERS)] for i, model in enumerate(models)}
        self.model_colours = {model: LIGHT[series(i + 1)] for i, model in enumerate(models)}
        self.several_seeds = len({c.seed for c in everyone}) > 1

    def label(self, candidate: Candidate, *, recipe: bool = True) -> str:
        """Return a short name for a candidate."""
        parts = [candidate.model, *([candidate.recipe] if recipe else [])]
        return " · ".join([*parts, *([f"s{candidate.seed}"] if self.several_seeds else [])])


def per_device(groups: Groups) -> list[tuple[str, str | None, list[Candidate]]]:
    """Return data set, device (None if nothing was profiled) and candidates of every panel."""
    return [
        (data, device, members)
        for data, members in groups.items()
        for device in (*devices_of(members),) or (None,)
    ]


def errors(value: Interval) -> list[list[float]] | None:
    if not value.bounded:
        return None
    estimate, low, high = value
    return [[max(0.0, estimate - low)], [max(0.0, high - estimate)]]


def note(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center",
              color=LIGHT["muted"])  # fmt: skip
    axes.grid(False)
    axes.set(xticks=[], yticks=[])


def logarithmic(
    axis: Axis, subs: tuple[int, ...] = (1, 2, 5), form: Callable[[float], str] = "{:g}".format
) -> None:
    """Put plain numbers at 1, 2, 5, 10 .. of a logarithmic axis.

    Matplotlib's own formatters, also that of the minor ticks, which speaks up where an axis spans less than a
    decade, write formulas, and formulas are not parsed here (`edgeward.core.svg`).
    """
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
    axis.set_minor_locator(NullLocator())


def panels(n: int, *, columns: int, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    columns = max(1, min(columns, n))
    rows = max(1, -(-n // columns))
    width = WIDTH * max(0.34, columns / 4) if columns < 4 else WIDTH
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for axes in grid[n:]:
        axes.remove()
    return figure, grid[: max(n, 1)]


def number(value: float | None) -> float:
    """Return the value, or NaN (which is not drawn) where there is none."""
    return math.nan if value is None else value
