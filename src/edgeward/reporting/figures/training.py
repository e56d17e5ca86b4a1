"""Training curves."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from edgeward.core import svg
from edgeward.core.palette import LIGHT
from edgeward.core.text import fixed, plural
from edgeward.reporting.figures.common import WIDTH, Groups, Key, note
from edgeward.reporting.load import Candidate

COLUMNS = 4


def curves(candidate: Candidate) -> dict[str, dict[str, str]]:
    """Return what is drawn of a data set's trainings: title -> column of ``history.csv`` -> line.

    Beside the losses the validation metrics, less those of single classes if they are too many.
    """
    names = [n for n in candidate.history[0] if n.startswith("val_")] if candidate.history else []
    names = [name for name in names if name != "val_loss"]
    if len(names) >= COLUMNS:
        names = [n for n in names if not any(n.endswith(f"_{c}") for c in candidate.card.classes)]
    shown = {_title(candidate, name): {name: "-"} for name in names[: COLUMNS - 1]}
    return {"Loss": {"val_loss": "-", "train_loss": ":"}, **shown}


def _title(candidate: Candidate, column: str) -> str:
    """Return the title of a metric's curve: its own label, and the class that it is of."""
    name, task = column.removeprefix("val_"), candidate.task
    of = next((c for c in candidate.card.classes if name.endswith(f"_{c}")), None)
    stem = name.removesuffix(f"_{of}")
    label = next((m.label for m in (*task.class_metrics, *task.metrics) if m.name == stem), stem)
    return f"Validation {label}" + (f", {of}" if of else "")


def training(groups: Groups, key: Key) -> str:
    """Draw the training curves, a row per data set, a line per model and seed."""
    figure = Figure(figsize=(WIDTH, 2.75 * len(groups) + 0.25), layout="constrained")
    grid = figure.subplots(len(groups), COLUMNS, squeeze=False)
    for line, (data, members) in zip(grid, groups.items(), strict=True):
        runs = {c.family: c for c in members}.values()
        shown = curves(members[0])
        for axes in line[len(shown) :]:
            axes.remove()
        for axes, (title, columns) in zip(line, shown.items(), strict=False):
            axes.set_title(title if len(groups) == 1 else f"{data}: {title}")
            for candidate in runs:
                _curve(axes, candidate, columns, key)
            axes.set_xlabel("Epoch")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            if not axes.lines:
                note(axes, "not recorded")
        models = dict.fromkeys(c.model for c in members)
        handles = [
            Line2D([], [], color=key.model_colours[m], marker=key.markers[m], ms=4.5, label=m)
            for m in models
        ]
        handles += [Line2D([], [], color=LIGHT["muted"], ls=":", label="training loss")]
        line[0].legend(handles=handles, loc="upper right")
    runs = {c.family: c for members in groups.values() for c in members}.values()
    alt = "; ".join(_describe(c) for c in runs if c.history)
    return svg.standalone(figure, f"Training curves. {alt}.")


def _describe(candidate: Candidate) -> str:
    """Say where a training began and ended."""
    first, last = candidate.history[0], candidate.history[-1]
    moved = ", ".join(
        f"{title[0].lower()}{title[1:]} {fixed(first[name])} to {fixed(last[name])}"
        for title, columns in curves(candidate).items()
        for name in columns
        if name != "train_loss" and name in first and name in last
    )
    epochs = plural(len(candidate.history), "epoch")
    return f"{candidate.model} seed {candidate.seed} on {candidate.data}, {epochs}: {moved}"


def _curve(axes: Axes, candidate: Candidate, columns: dict[str, str], key: Key) -> None:
    for name, dash in columns.items():
        rows = [r for r in candidate.history if name in r and math.isfinite(r[name])]
        if rows:
            x = [row.get("epoch", i) for i, row in enumerate(rows)]
            axes.plot(x, [row[name] for row in rows], dash, lw=1.3, marker=key.markers[candidate.model],
                      ms=3.6, markevery=max(1, len(rows) // 8), color=key.model_colours[candidate.model])  # fmt: skip
