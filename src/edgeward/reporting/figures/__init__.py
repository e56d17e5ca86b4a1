"""The figures: each takes candidates grouped by data set and gives an SVG document."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeward.core import svg
from edgeward.reporting.figures.common import Groups, Key
from edgeward.reporting.figures.curves import curves, selective
from edgeward.reporting.figures.forest import forest
from edgeward.reporting.figures.front import front
from edgeward.reporting.figures.ranks import rank_study
from edgeward.reporting.figures.reliability import reliability
from edgeward.reporting.figures.roofline import roofline
from edgeward.reporting.figures.sustained import sustained
from edgeward.reporting.figures.tradeoff import trade_off
from edgeward.reporting.figures.training import training
from edgeward.reporting.scaling import Cell

FIGURES: dict[str, Callable[[Groups, Key], str]] = {
    "latency_vs_quality": trade_off,
    "reliability": reliability,
    "forest": forest,
    "curves": curves,
    "selective": selective,
    "front": front,
    "roofline": roofline,
    "training": training,
    "sustained": sustained,
}


def draw(groups: Groups, key: Key, cells: Sequence[Cell] = ()) -> dict[str, str]:
    """Return every figure of `FIGURES`, and the rank study, as an SVG document, where there is something to draw.

    Parameters
    ----------
    cells : untrained networks, which the rank study counts in.
    """
    if not groups:
        return {}
    with svg.style():
        drawn = {name: make(groups, key) for name, make in FIGURES.items()}
        drawn["ranks"] = rank_study(groups, cells)
        return {name: document for name, document in drawn.items() if document}
