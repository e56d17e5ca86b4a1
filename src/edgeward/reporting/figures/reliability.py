"""Reliability diagrams."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from edgeward.core import svg
from edgeward.core.palette import LIGHT
from edgeward.core.text import fixed
from edgeward.records.base import Interval
from edgeward.records.safety import Reliability
from edgeward.reporting.figures.common import Groups, Key, panels
from edgeward.reporting.load import Candidate

LOOKS = ("o-", "s:", "^--", "D-.")  # of the regions in turn


def ece(candidate: Candidate, region: str) -> Interval:
    """Return the calibration error of a region."""
    return candidate.metric("ece" if region == "all" else f"{region}_ece")


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
        f"{c.model} {c.recipe} seed {c.seed} on {c.data} "
        + ", ".join(
            f"{'' if r == 'all' else f'{r} '}{fixed(ece(c, r).estimate, 4)}"
            for r in c.safety.reliability
        )
        for members in groups.values()
        for c in members
    )
    return svg.standalone(
        figure, f"Reliability diagrams, with the RMS-ECE of each candidate: {alt}."
    )


def _curve(axes: Axes, diagram: Reliability, form: str, colour: str, order: int) -> None:
    kept = np.array(diagram.count) > 0
    confidence, accuracy, low, high = (
        np.array(values, dtype=float)[kept]
        for values in (diagram.confidence, diagram.accuracy, diagram.low, diagram.high)
    )
    errors = np.clip([accuracy - low, high - accuracy], 0, None)
    axes.errorbar(confidence, accuracy, errors, fmt=form, color=colour, ms=3.2, lw=1.2,
                  elinewidth=0.9, alpha=0.9, zorder=order)  # fmt: skip


def _reliability_panel(axes: Axes, members: list[Candidate], key: Key) -> None:
    axes.plot([0, 1], [0, 1], color=LIGHT["muted"], lw=0.8, ls=(0, (4, 3)), zorder=1)
    shown: dict[tuple[str, str], list[Interval]] = {}
    looks = dict(zip(members[0].safety.reliability, LOOKS, strict=False))
    for candidate in members:
        colour, order = key.colours[candidate.recipe], 2 + (not candidate.is_reference)
        for region, diagram in candidate.safety.reliability.items():
            _curve(axes, diagram, looks[region], colour, order)
            shown.setdefault((candidate.recipe, region), []).append(ece(candidate, region))
    handles = [
        Line2D([], [], marker=looks[region][0], ls=looks[region][1:], ms=4, lw=1.2,
               color=key.colours[recipe],
               label=f"{recipe}{'' if region == 'all' else f', {region}'}: RMS-ECE "
               f"{' / '.join(fixed(v.estimate) for v in values)}")
        for (recipe, region), values in shown.items()
    ]  # fmt: skip
    axes.legend(handles=handles, loc="lower right", handlelength=1.6, borderaxespad=0.2,
                fontsize=8 if len(handles) < 3 else 7)  # fmt: skip
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal", xlabel="Confidence", ylabel="Accuracy")
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))
