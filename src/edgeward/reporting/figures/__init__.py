"""The figures: each takes candidates grouped by data set and gives an SVG document."""

from __future__ import annotations

from collections.abc import Callable

from edgeward.reporting import svg
from edgeward.reporting.figures.common import Groups, Key
from edgeward.reporting.figures.forest import forest
from edgeward.reporting.figures.ranks import rank_study
from edgeward.reporting.figures.reliability import reliability
from edgeward.reporting.figures.roofline import roofline
from edgeward.reporting.figures.tradeoff import trade_off
from edgeward.reporting.figures.training import training

FIGURES: dict[str, Callable[[Groups, Key], str]] = {
    "latency_vs_quality": trade_off,
    "reliability": reliability,
    "forest": forest,
    "roofline": roofline,
    "ranks": rank_study,
    "training": training,
}


def draw(groups: Groups, key: Key) -> dict[str, str]:
    """Return every figure of `FIGURES` as an SVG document."""
    with svg.style():
        return {name: make(groups, key) for name, make in FIGURES.items()}
