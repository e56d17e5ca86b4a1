"""Reliability diagrams."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from edgeward.reporting import svg
from edgeward.reporting.figures.common import Groups, Key, panels
from edgeward.reporting.load import Candidate
from edgeward.reporting.numbers import Interval, fixed
from edgeward.reporting.palette import LIGHT

# Field of safety.json -> its ECE, marker, line, and addition to the label.
REGIONS = {
    "reliability": ("ece", "o", "-", ""),
    "boundary_reliability": ("boundary_ece", "s", ":", ", boundaries"),
}


def reliability(groups: Groups, key: Key) -> str:
    """Draw reliability diagrams, a panel per data set, model and compressed recipe.

    The reference is in every panel; several seeds are drawn over each other.
    """
    shown: dict[tuple[str, str, str | None], list[Candidate]] = {}
    for data, members in groups.items():
        for model in dict.fromkeys(c.model for c in members):
            mine = [c for c in members if c.model == model]
            recipes = dict.fromkeys(c.recipe for c in mine if not c.is_reference)
            for recipe in recipes or [None]:
                shown[data, model, recipe] = [
                    c for c in mine if c.is_reference or c.recipe == recipe
                ]
    figure, grid = panels(len(shown), columns=4, height=3.1)
    for axes, ((data, model, _), members) in zip(grid, shown.items(), strict=False):
        axes.set_title(model if len(groups) == 1 else f"{data}: {model}")
        _reliability_panel(axes, members, key)
    alt = ", ".join(
        f"{c.model} {c.recipe} seed {c.seed} on {c.data} ECE {fixed(c.metric('ece').estimate, 4)}"
        + (
            f", at boundaries {fixed(c.metric('boundary_ece').estimate, 4)}"
            if c.task.segments
            else ""
        )
        for members in groups.values()
        for c in members
    )
    return svg.standalone(figure, f"Reliability diagrams. {alt}.")


def _curve(axes: Axes, candidate: Candidate, region: str, form: str, colour: str) -> None:
    data = candidate.safety[region]
    kept = [i for i, n in enumerate(data["count"]) if n]
    part = {
        name: np.array([data[name][i] for i in kept], dtype=float)
        for name in ("confidence", "accuracy", "low", "high")
    }
    errors = np.clip([part["accuracy"] - part["low"], part["high"] - part["accuracy"]], 0, None)
    axes.errorbar(part["confidence"], part["accuracy"], errors, fmt=form, color=colour, ms=3.2,
                  lw=1.2, elinewidth=0.9, alpha=0.9, zorder=2 + (not candidate.is_reference))  # fmt: skip


def _reliability_panel(axes: Axes, members: list[Candidate], key: Key) -> None:
    axes.plot([0, 1], [0, 1], color=LIGHT["muted"], lw=0.8, ls=(0, (4, 3)), zorder=1)
    shown: dict[tuple[str, str], list[Interval]] = {}
    for candidate in members:
        colour = key.colours[candidate.recipe]
        for region, (metric, marker, dash, _) in REGIONS.items():
            if region in candidate.safety:
                _curve(axes, candidate, region, f"{marker}{dash}", colour)
                shown.setdefault((candidate.recipe, region), []).append(candidate.metric(metric))
    handles = [
        Line2D([], [], marker=REGIONS[region][1], ls=REGIONS[region][2], ms=4, lw=1.2,
               color=key.colours[recipe],
               label=f"{recipe}{REGIONS[region][3]}: ECE {' / '.join(fixed(v.estimate) for v in values)}")
        for (recipe, region), values in shown.items()
    ]  # fmt: skip
    axes.legend(handles=handles, loc="lower right", handlelength=1.6, borderaxespad=0.2,
                fontsize=8 if len(handles) < 3 else 7)  # fmt: skip
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal", xlabel="Confidence", ylabel="Accuracy")
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))
