"""ROC and precision-recall curves of the classes that matter; risk over coverage."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from edgeward.core import svg
from edgeward.core.palette import LIGHT
from edgeward.core.text import fixed
from edgeward.reporting.figures.common import Groups, Key, note, panels
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
    titles = list(dict.fromkeys(row[0] for row in rows))
    lines = [[row for row in rows if row[0] == title] for title in titles]
    columns = max(map(len, lines), default=1)
    figure, grid = panels(2 * columns * len(titles), columns=columns, height=2.1)
    for i, (title, line) in enumerate(zip(titles, lines, strict=True)):
        for j, draw in enumerate((_roc, _precision)):
            mine_axes = grid[(2 * i + j) * columns :][:columns]
            for axes, (_, name, members) in zip(mine_axes, line, strict=False):
                draw(axes, name, members, key)
            mine_axes[0].set_ylabel(f"{title}\n{mine_axes[0].get_ylabel()}")
            for axes in mine_axes[len(line) :]:
                axes.remove()
    if not rows:
        note(grid[0], "no class was ranked")
    if rows:
        recipes = dict.fromkeys(c.recipe for row in rows for c in row[2])
        handles = [
            Line2D([], [], color=key.colours[r], ls=key.dashes[r], lw=1.4, label=r) for r in recipes
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6))
    alt = ", ".join(
        f"{c.model} {c.recipe} {name} AUC {fixed(_auc(c, name), 4)}"
        for _, name, members in rows
        for c in members
    )
    return svg.standalone(
        figure, f"ROC and precision-recall curves of each class, with its AUC: {alt or 'nothing'}."
    )


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
        axes.plot(
            curve.fpr,
            curve.tpr,
            color=key.colours[c.recipe],
            ls=key.dashes[c.recipe],
            lw=1.2,
            zorder=2,
        )
    axes.set_title(name)
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="1 - specificity", ylabel="Sensitivity")


def _precision(axes: Axes, name: str, members: list[Candidate], key: Key) -> None:
    for c in members:
        curve = c.safety.curves[name]
        axes.plot(
            curve.tpr,
            curve.precision,
            color=key.colours[c.recipe],
            ls=key.dashes[c.recipe],
            lw=1.2,
            zorder=2,
        )
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="Sensitivity", ylabel="Precision")


def selective(groups: Groups, key: Key) -> str:
    """Draw the risk of the most confident share of the cases, a panel per data set and model, all recipes and seeds in it."""
    shown = {
        (data, model): [c for c in members if c.model == model and c.safety.selective]
        for data, members in groups.items()
        for model in dict.fromkeys(c.model for c in members)
    }
    shown = {of: members for of, members in shown.items() if members}
    figure, grid = panels(len(shown), columns=4, height=2.6)
    for axes, ((data, model), members) in zip(grid, shown.items(), strict=False):
        axes.set_title(model if len(groups) == 1 else f"{data}: {model}")
        for c in members:
            curve = c.safety.selective
            axes.plot(
                curve["coverage"],
                curve["risk"],
                color=key.colours[c.recipe],
                ls=key.dashes[c.recipe],
                lw=1.3,
            )
        axes.set(xlim=(0, 1), xlabel="Share decided")
        axes.set_ylim(bottom=0)
        handles = [
            Line2D([], [], color=key.colours[r], ls=key.dashes[r], lw=1.4, label=r)
            for r in dict.fromkeys(c.recipe for c in members)
        ]
        axes.legend(handles=handles, loc="upper left", fontsize=7, handlelength=1.4)
    grid[0].set_ylabel("Share of these decided wrongly")
    if not shown:
        note(grid[0], "no confidence per case")
    alt = ", ".join(
        f"{c.model} {c.recipe} seed {c.seed} {fixed(c.safety.selective['risk'][-1])}"
        for members in shown.values()
        for c in members
    )
    return svg.standalone(
        figure, f"Share decided wrongly, over the share decided; of all cases: {alt or 'nothing'}."
    )
