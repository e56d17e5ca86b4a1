"""Latency against what might foretell it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from edgeward.core import svg
from edgeward.core.palette import LIGHT, series
from edgeward.core.text import fixed, p_value, short
from edgeward.reporting import ranks
from edgeward.reporting.figures.common import MARKERS, WIDTH, Groups, logarithmic, note, per_device
from edgeward.reporting.numbers import bracket
from edgeward.reporting.scaling import Cell

Look = dict[str, dict[str, Any]]
COLUMNS = 6  # of the legend


def rank_study(groups: Groups, cells: Sequence[Cell]) -> str:
    """Draw latency against each predictor, a row per data set and device, a dot per fp32 model.

    Only those with models enough for an interval are drawn: a rank correlation of three says nothing. Empty without any.
    """
    rows = [
        (data, device, found)
        for data, device, members in per_device(groups)
        if device and len(found := ranks.points(members, device, cells)[0]) >= ranks.LEAST
    ]
    if not rows:
        return ""
    models = dict.fromkeys(point.model for _, _, found in rows for point in found)
    look = {m: _look(i) for i, m in enumerate(models)}
    legend = 0.25 * -(-len(models) // COLUMNS)
    figure = Figure(figsize=(WIDTH, 2.9 * len(rows) + 0.2 + legend), layout="constrained")
    grid = figure.subplots(len(rows), len(ranks.PREDICTORS), squeeze=False, sharey="row")
    said = []
    for line, (data, device, found) in zip(grid, rows, strict=True):
        study = ranks.correlate(found)
        where = f"{data} on {device}"
        for axes, name in zip(line, ranks.PREDICTORS, strict=True):
            _panel(axes, name, found, study, look)
        line[0].set_ylabel(f"{where}\nmedian latency, ms")
        said.append(f"{where}: {study.answer if study else 'nothing to correlate'}")
    handles = [Line2D([], [], ls="", label=m, **look[m]) for m in models]
    figure.legend(handles=handles, loc="outside lower center", ncols=COLUMNS, fontsize=7.5)
    return svg.standalone(figure, f"Rank study. {'; '.join(said)}")


def _panel(
    axes: Axes, name: str, found: list[ranks.Point], study: ranks.Correlations | None, look: Look
) -> None:
    title = ranks.PREDICTORS[name]
    predictor = study.predictor(name) if study else None
    if predictor is None:
        axes.set_title(title)
        note(axes, "not known for every model")
        return
    rho = predictor.rho
    axes.set_title(
        f"{title}\nρ {fixed(rho.estimate, 2)} {bracket(rho, 2)}, p {p_value(predictor.p)}",
        fontsize=8.2,
    )
    for point in found:
        axes.plot([point.predictors[name]], [point.latency_ms], ms=6, **look[point.model])
    axes.set(xscale="log", yscale="log", xlabel="ms" if name == "roofline_ms" else _unit(name))
    axes.margins(0.12)
    logarithmic(axes.xaxis, (1, 3), "{:g}".format if name == "roofline_ms" else short)
    logarithmic(axes.yaxis)
    axes.tick_params(labelleft=name == next(iter(ranks.PREDICTORS)))
    axes.xaxis.label.set_color(LIGHT["muted"])


def _unit(name: str) -> str:
    return {"macs": "per image", "parameters": "in all", "bytes_moved": "bytes per inference"}[name]


def _look(position: int) -> dict[str, Any]:
    return {"marker": MARKERS[position % len(MARKERS)], "color": LIGHT[series(position + 1)]}
