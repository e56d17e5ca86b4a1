"""ROC and precision-recall curves of the classes that matter."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from edgeward.core import svg
from edgeward.core.palette import LIGHT
from edgeward.core.text import fixed
from edgeward.reporting.figures.common import Groups, Key, panels
from edgeward.reporting.load import Candidate


def curves(groups: Groups, key: Key) -> str:
    """Draw both curves of each rare or critical class (of all, where there is none): a row per data set and model.

    All recipes are in each panel; of several seeds the first.
    """
    rows: list[tuple[str, str, list[Candidate]]] = []
    for data, members in groups.items():
        of = f"{data}: " if len(groups) > 1 else ""
        for model in dict.fromkeys(c.model for c in members if c.safety.curves):
            seed = min(c.seed for c in members if c.model == model)
            mine = [c for c in members if (c.model, c.seed) == (model, seed)]
            rows += [(f"{of}{model}", name, mine) for name in shown(mine[0])]
    columns = max((sum(1 for r in rows if r[0] == row[0]) for row in rows), default=1)
    figure, grid = panels(2 * len(rows), columns=columns, height=2.1)
    at = 0
    for title in dict.fromkeys(row[0] for row in rows):
        mine_rows = [row for row in rows if row[0] == title]
        for draw in (_roc, _precision_recall):
            for i, (_, name, members) in enumerate(mine_rows):
                draw(grid[at], name, members, key)
                if i == 0:
                    grid[at].set_ylabel(f"{title}\n{grid[at].get_ylabel()}")
                at += 1
    if rows:
        recipes = dict.fromkeys(c.recipe for row in rows for c in row[2])
        handles = [Line2D([], [], color=key.colours[r], lw=1.4, label=r) for r in recipes]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6))
    alt = ", ".join(
        f"{c.model} {c.recipe} {name} AUC {fixed(_auc(c, name), 4)}"
        for _, name, members in rows
        for c in members
    )
    return svg.standalone(figure, f"ROC and precision-recall curves. {alt}.")


def shown(candidate: Candidate) -> list[str]:
    """Return the classes that are drawn."""
    safety = candidate.safety
    named = [row.name for row in safety.per_class if row.rare or row.critical]
    return [name for name in named or safety.classes if name in safety.curves]


def _auc(candidate: Candidate, name: str) -> float | None:
    row = next(row for row in candidate.safety.per_class if row.name == name)
    return row.metrics["auc"].estimate if "auc" in row.metrics else None


def _roc(axes: Axes, name: str, members: list[Candidate], key: Key) -> None:
    axes.plot([0, 1], [0, 1], color=LIGHT["muted"], lw=0.8, ls=(0, (4, 3)), zorder=1)
    for c in members:
        curve = c.safety.curves[name]
        axes.plot(curve.fpr, curve.tpr, color=key.colours[c.recipe], lw=1.2, zorder=2)
    axes.set_title(name)
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="1 - specificity", ylabel="Sensitivity")


def _precision_recall(axes: Axes, name: str, members: list[Candidate], key: Key) -> None:
    for c in members:
        curve = c.safety.curves[name]
        axes.plot(curve.tpr, curve.precision, color=key.colours[c.recipe], lw=1.2, zorder=2)
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="Sensitivity", ylabel="Precision")
