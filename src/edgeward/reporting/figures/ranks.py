"""Latency against what might foretell it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from edgeward.core import svg
from edgeward.core.palette import LIGHT, series
from edgeward.core.text import fixed, p_value, short
from edgeward.reporting import ranks
from edgeward.reporting.figures.common import MARKERS, WIDTH, Groups, note, per_device
from edgeward.reporting.numbers import bracket
from edgeward.reporting.scaling import Cell

Look = dict[str, dict[str, Any]]
COLUMNS = 6  # of the legend


def rank_study(groups: Groups, cells: Sequence[Cell]) -> str:
    """Draw latency against each predictor, a row per data set and device, a dot per fp32 model."""
    rows = [
        (data, device, ranks.points(members, device, cells)[0] if device else [])
        for data, device, members in per_device(groups)
    ]
    models = dict.fromkeys(point.model for _, _, found in rows for point in found)
    look = {m: _look(i) for i, m in enumerate(models)}
    legend = 0.25 * -(-len(models) // COLUMNS)
    figure = Figure(figsize=(WIDTH, 2.9 * len(rows) + 0.2 + legend), layout="constrained")
    grid = figure.subplots(len(rows), len(ranks.PREDICTORS), squeeze=False, sharey="row")
    said = []
    for line, (data, device, found) in zip(grid, rows, strict=True):
        study = ranks.correlate(found)
        where = f"{data} on {device}" if device else data
        for axes, name in zip(line, ranks.PREDICTORS, strict=True):
            _panel(axes, name, found, study, look)
        line[0].set_ylabel(f"{where}\nmedian latency, ms")
        said.append(f"{where}: {study.answer if study else 'fewer than three fp32 models'}")
    if models:
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
        note(axes, "fewer than three models" if study is None else "not known for every model")
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
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=6))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda v, _: f"{v:g}" if name == "roofline_ms" else short(v))
    )
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelleft=name == next(iter(ranks.PREDICTORS)))
    axes.xaxis.label.set_color(LIGHT["muted"])


def _unit(name: str) -> str:
    return {"macs": "per image", "parameters": "in all", "bytes_moved": "bytes per inference"}[name]


def _look(position: int) -> dict[str, Any]:
    return {"marker": MARKERS[position % len(MARKERS)], "color": LIGHT[series(position + 1)]}
