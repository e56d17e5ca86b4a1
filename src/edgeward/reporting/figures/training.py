"""Training curves."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from edgeward.reporting import svg
from edgeward.reporting.figures.common import WIDTH, Groups, Key, note
from edgeward.reporting.load import Candidate
from edgeward.reporting.palette import LIGHT

Curves = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
LOSS = ("Loss", (("val_loss", "-"), ("train_loss", ":")))
CLASSIFICATION: Curves = (
    LOSS,
    ("Validation AUC", (("val_auc", "-"),)),
    ("Validation balanced accuracy", (("val_balanced_accuracy", "-"),)),
    ("Validation rare-class recall", (("val_rare_recall", "-"),)),
)
COLUMNS = len(CLASSIFICATION)


def curves(candidate: Candidate) -> Curves:
    """Return what is drawn of a data set's trainings: titles and columns of ``history.csv``."""
    if not candidate.task.segments:
        return CLASSIFICATION
    classes = candidate.card["classes"]
    own = classes if 1 < len(classes) <= COLUMNS - 2 else []
    return (
        LOSS,
        ("Validation Dice", (("val_dice", "-"),)),
        *((f"Validation Dice, {name}", ((f"val_dice_{name}", "-"),)) for name in own),
    )


def training(groups: Groups, key: Key) -> str:
    """Draw the training curves, a row per data set, a line per model and seed."""
    figure = Figure(figsize=(WIDTH, 2.75 * len(groups) + 0.25), layout="constrained")
    grid = figure.subplots(len(groups), COLUMNS, squeeze=False)
    for line, (data, members) in zip(grid, groups.items(), strict=True):
        runs = {c.family: c for c in members}.values()
        shown = curves(members[0])
        for axes in line[len(shown) :]:
            axes.remove()
        for axes, (title, columns) in zip(line, shown, strict=False):
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


def _curve(
    axes: Axes, candidate: Candidate, columns: tuple[tuple[str, str], ...], key: Key
) -> None:
    for name, dash in columns:
        rows = [r for r in candidate.history if name in r and math.isfinite(r[name])]
        if rows:
            x = [row.get("epoch", i) for i, row in enumerate(rows)]
            axes.plot(x, [row[name] for row in rows], dash, lw=1.3,
                      marker="." if len(rows) < 3 else "", color=key.model_colours[candidate.model])  # fmt: skip
