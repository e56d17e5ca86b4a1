"""Training curves."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from edgeward.core import svg
from edgeward.core.palette import LIGHT
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
        handles = [Line2D([], [], color=key.model_colours[m], label=m) for m in models]
        handles += [Line2D([], [], color=LIGHT["muted"], ls=":", label="training loss")]
        line[0].legend(handles=handles, loc="upper right")
    alt = "; ".join(
        f"{c.model} seed {c.seed} on {c.data}: {len(c.history)} epochs"
        for c in {c.family: c for members in groups.values() for c in members}.values()
    )
    return svg.standalone(figure, f"Training curves. {alt}.")


def _curve(axes: Axes, candidate: Candidate, columns: dict[str, str], key: Key) -> None:
    for name, dash in columns.items():
        rows = [r for r in candidate.history if name in r and math.isfinite(r[name])]
        if rows:
            x = [row.get("epoch", i) for i, row in enumerate(rows)]
            axes.plot(x, [row[name] for row in rows], dash, lw=1.3,
                      marker="." if len(rows) < 3 else "", color=key.model_colours[candidate.model])  # fmt: skip
