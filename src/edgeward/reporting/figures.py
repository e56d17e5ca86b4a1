"""The figures: each takes candidates grouped by data set and gives an SVG document."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from edgeward.reporting import svg
from edgeward.reporting.comparison import rare_cases
from edgeward.reporting.load import Candidate, Timing, reference_of
from edgeward.reporting.numbers import Interval, fixed, interval, milliseconds, plural
from edgeward.reporting.palette import LIGHT, SYMBOLS, series

Groups = dict[str, list[Candidate]]
MARKERS = "osD^vPXhp<>*"
WIDTH = 11.6  # inches; 1114 px at the natural size of the page


class Key:
    """Colours for recipes and markers for models, the same in all figures of a sweep."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        everyone = list(candidates)
        neutral = dict.fromkeys(c.recipe for c in everyone if c.is_reference)
        others = dict.fromkeys(c.recipe for c in everyone if c.recipe not in neutral)
        models = dict.fromkeys(c.model for c in everyone)
        self.names: dict[str, str] = dict.fromkeys(neutral, series(0))
        self.names |= {recipe: series(i + 1) for i, recipe in enumerate(others)}
        self.colours = {recipe: LIGHT[name] for recipe, name in self.names.items()}
        self.markers = {model: MARKERS[i % len(MARKERS)] for i, model in enumerate(models)}
        self.model_colours = {model: LIGHT[series(i + 1)] for i, model in enumerate(models)}
        self.several_seeds = len({c.seed for c in everyone}) > 1

    def label(self, candidate: Candidate, *, recipe: bool = True) -> str:
        """Return a short name for a candidate."""
        parts = [candidate.model, *([candidate.recipe] if recipe else [])]
        return " · ".join([*parts, *([f"s{candidate.seed}"] if self.several_seeds else [])])


def _errors(value: Interval) -> list[list[float]] | None:
    if not value.bounded:
        return None
    assert value.estimate is not None
    assert value.low is not None
    assert value.high is not None
    return [[max(0.0, value.estimate - value.low)], [max(0.0, value.high - value.estimate)]]


def _note(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center",
              color=LIGHT["muted"])  # fmt: skip
    axes.grid(False)
    axes.set(xticks=[], yticks=[])


def pareto(points: list[tuple[float, float]]) -> list[int]:
    """Return the indices of the points that no other beats, by ascending first coordinate.

    Parameters
    ----------
    points : (cost, gain) pairs; less cost and more gain are better.
    """
    front: list[int] = []
    best = -np.inf
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[i][1] > best:
            front.append(i)
            best = points[i][1]
    return front


def trade_off(groups: Groups, key: Key) -> str:
    """Draw p50 latency (ms) against rare-class recall, a panel per data set and device."""
    panels = [
        (data, device, members)
        for data, members in groups.items()
        for device in dict.fromkeys(d for c in members for d in c.profiles) or [None]
    ]
    figure = Figure(figsize=(WIDTH * 0.82, 3.9 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (data, device, members) in zip(grid, panels, strict=True):
        _trade_off_panel(axes, data, device, members, key)
    alt = "; ".join(_describe_trade_off(*panel) for panel in panels)
    return svg.standalone(figure, f"Median latency against rare-class recall. {alt}.")


def _measured(device: str | None, members: list[Candidate]) -> list[tuple[Candidate, Timing]]:
    return [
        (c, timing)
        for c in members
        if device and (timing := c.timing(device)) and timing.latency("p50").known
        if c.metric("rare_recall").known
    ]


def _describe_trade_off(data: str, device: str | None, members: list[Candidate]) -> str:
    points = ", ".join(
        f"{c.model} {c.recipe} seed {c.seed} {milliseconds(t.latency('p50').estimate)} ms at recall "
        f"{fixed(c.metric('rare_recall').estimate)}"
        for c, t in _measured(device, members)
    )
    return f"{data} on {device}: {points}" if points else f"{data}: nothing measured"


def _trade_off_panel(
    axes: Axes, data: str, device: str | None, members: list[Candidate], key: Key
) -> None:
    points = _measured(device, members)
    threads = {t.threads for _, t in points}
    setting = f", {plural(next(iter(threads)) or 0, 'thread')}" if len(threads) == 1 else ""
    n = rare_cases(members[0])
    axes.set_title(f"{data} on {device}{setting}; {n} test images of rare classes" if device else data)
    if not points:
        _note(axes, "No candidate has both a latency and a rare-class recall.")
        return
    for candidate, timing in points:
        latency, recall = timing.latency("p50"), candidate.metric("rare_recall")
        colour = key.colours[candidate.recipe]
        tail = timing.latency("p90").estimate
        if tail is not None:
            axes.plot([latency.estimate, tail], [recall.estimate] * 2, color=colour, lw=0.9,
                      alpha=0.55, zorder=2)  # fmt: skip
            axes.plot([tail], [recall.estimate], "|", color=colour, ms=6, alpha=0.7, zorder=2)
        axes.errorbar(
            [latency.estimate], [recall.estimate], _errors(recall), _errors(latency),
            fmt=key.markers[candidate.model], color=colour, ms=7.5, elinewidth=1.2, capsize=2.5,
            mfc=colour if timing.valid else LIGHT["surface"], mec=colour, mew=1.3, zorder=3,
        )  # fmt: skip
    valid = [(t.latency("p50").estimate, c.metric("rare_recall").estimate)
             for c, t in points if t.valid]  # fmt: skip
    if len(valid) > 1:
        front = [valid[i] for i in pareto(valid)]  # type: ignore[arg-type]
        axes.plot(*zip(*front, strict=True), ls=(0, (2, 2)), color=LIGHT["muted"], lw=1, zorder=1)
    _latency_axis(axes, [t.latency("p50").estimate or 0 for _, t in points])
    axes.margins(x=0.1, y=0.14)
    axes.set(xlabel="Latency per image, ms (marker: median with interval; tick: p90)",
             ylabel="Rare-class recall")  # fmt: skip
    _trade_off_legend(axes, [c for c, _ in points], [t.valid for _, t in points], key)


def _latency_axis(axes: Axes, values: list[float]) -> None:
    if max(values) > 8 * min(values) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))


def _trade_off_legend(axes: Axes, members: list[Candidate], valid: list[bool], key: Key) -> None:
    def dot(label: str, marker: str, colour: str, fill: str) -> Line2D:
        return Line2D([], [], ls="", marker=marker, color=colour, mfc=fill, mec=colour, label=label)

    ink = LIGHT["muted"]
    handles = [dot(m, key.markers[m], ink, ink) for m in dict.fromkeys(c.model for c in members)]
    handles += [
        Line2D([], [], lw=4, color=key.colours[recipe], label=recipe)
        for recipe in dict.fromkeys(c.recipe for c in members)
    ]
    if not all(valid):
        handles.append(dot("timing INVALID", "o", ink, LIGHT["surface"]))
    if sum(valid) > 1:
        handles.append(Line2D([], [], ls=(0, (2, 2)), lw=1, color=ink, label="Pareto front"))
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)


def reliability(groups: Groups, key: Key) -> str:
    """Draw reliability diagrams, a panel per data set, model and compressed recipe.

    The reference is in every panel; several seeds are drawn over each other.
    """
    panels: dict[tuple[str, str, str | None], list[Candidate]] = {}
    for data, members in groups.items():
        for model in dict.fromkeys(c.model for c in members):
            mine = [c for c in members if c.model == model]
            recipes = dict.fromkeys(c.recipe for c in mine if not c.is_reference)
            for recipe in recipes or [None]:
                panels[data, model, recipe] = [
                    c for c in mine if c.is_reference or c.recipe == recipe
                ]
    figure, grid = _grid(len(panels), columns=4, height=3.1)
    for axes, ((data, model, _), members) in zip(grid, panels.items(), strict=False):
        axes.set_title(model if len(groups) == 1 else f"{data}: {model}")
        _reliability_panel(axes, members, key)
    alt = ", ".join(
        f"{c.model} {c.recipe} seed {c.seed} on {c.data} ECE {fixed(c.metric('ece').estimate, 4)}"
        for members in groups.values()
        for c in members
    )
    return svg.standalone(figure, f"Reliability diagrams. {alt}.")


def _reliability_panel(axes: Axes, members: list[Candidate], key: Key) -> None:
    axes.plot([0, 1], [0, 1], color=LIGHT["muted"], lw=0.8, ls=(0, (4, 3)), zorder=1)
    shown: dict[str, list[Interval]] = {}
    for candidate in members:
        data = candidate.safety["reliability"]
        kept = [i for i, n in enumerate(data["count"]) if n]
        part = {
            name: np.array([data[name][i] for i in kept], dtype=float)
            for name in ("confidence", "accuracy", "low", "high")
        }
        colour = key.colours[candidate.recipe]
        errors = np.clip([part["accuracy"] - part["low"], part["high"] - part["accuracy"]], 0, None)
        axes.errorbar(part["confidence"], part["accuracy"], errors, fmt="o-", color=colour, ms=3.2,
                      lw=1.2, elinewidth=0.9, alpha=0.9, zorder=2 + (not candidate.is_reference))  # fmt: skip
        shown.setdefault(candidate.recipe, []).append(candidate.metric("ece"))
    handles = [
        Line2D([], [], marker="o", ms=4, color=key.colours[recipe],
               label=f"{recipe}: ECE {' / '.join(fixed(v.estimate) for v in values)}")
        for recipe, values in shown.items()
    ]  # fmt: skip
    axes.legend(handles=handles, loc="lower right", handlelength=1.4, borderaxespad=0.2)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal", xlabel="Confidence", ylabel="Accuracy")
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))


def _grid(
    n: int, *, columns: int, height: float, **options: Any
) -> tuple[Figure, list[Axes]]:
    columns = max(1, min(columns, n))
    rows = max(1, -(-n // columns))
    width = WIDTH * max(0.34, columns / 4) if columns < 4 else WIDTH
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for axes in grid[n:]:
        axes.remove()
    return figure, grid[: max(n, 1)]


def class_difference(candidate: Candidate, name: str) -> Interval:
    """Return compressed minus reference sensitivity of a class with its interval."""
    return candidate.difference(f"recall_{name}")


def class_endpoint(candidate: Candidate, name: str) -> dict[str, Any] | None:
    """Return the non-inferiority endpoint on the sensitivity of a class, if there is one."""
    for endpoint in candidate.verdict["endpoints"]:
        if endpoint.get("class") == name:
            return dict(endpoint)
    return None


def forest(groups: Groups, key: Key) -> str:
    """Draw per-class sensitivity differences, a panel per compressed candidate."""
    compressed = [c for members in groups.values() for c in members if not c.is_reference]
    most = max((len(c.safety["per_class"]) for c in compressed), default=3)
    figure, grid = _grid(len(compressed), columns=4, height=1.15 + 0.27 * most)
    if not compressed:
        _note(grid[0], "No compressed candidate in this sweep.")
        return svg.standalone(figure, "No compressed candidate: no differences to show.")
    reach = _reach(compressed)
    for axes, candidate in zip(grid, compressed, strict=False):
        _forest_panel(axes, candidate, reach)
        where = "" if len(groups) == 1 else f"{candidate.data}: "
        seed = f" · seed {candidate.seed}" if key.several_seeds else ""
        axes.set_title(f"{where}{candidate.model}\n{candidate.recipe}{seed}\n", fontsize=8.5)
        axes.text(0, 1.02, f"{SYMBOLS[candidate.outcome]} {candidate.outcome}", va="bottom",
                  transform=axes.transAxes, color=LIGHT[candidate.outcome], weight="bold")  # fmt: skip
    alt = ". ".join(
        f"{key.label(c)}: "
        + ", ".join(
            f"{e['class']} {fixed(class_difference(c, e['class']).estimate, signed=True)}"
            for e in c.safety["per_class"]
        )
        for c in compressed
    )
    return svg.standalone(figure, f"Sensitivity per class, compressed minus reference. {alt}.")


def _reach(compressed: list[Candidate]) -> float:
    ends = [
        abs(end)
        for c in compressed
        for e in c.safety["per_class"]
        for end in vars(class_difference(c, e["class"])).values()
        if end is not None
    ]
    margins = [abs(e["margin"]) for c in compressed for e in c.verdict["endpoints"] if e.get("class")]
    return 1.08 * max([*ends, *margins, 0.05])


def _forest_panel(axes: Axes, candidate: Candidate, reach: float) -> None:
    entries = candidate.safety["per_class"]
    markers = {"pass": "o", "fail": "X", "inconclusive": "D", None: "o"}
    axes.axvline(0, color=LIGHT["muted"], lw=0.9, zorder=1)
    for row, entry in enumerate(entries):
        endpoint = class_endpoint(candidate, entry["class"])
        value = class_difference(candidate, entry["class"])
        if endpoint and interval(endpoint.get("difference")).bounded:
            value = interval(endpoint["difference"])
        outcome = endpoint["outcome"] if endpoint else None
        colour = LIGHT[outcome] if outcome in SYMBOLS else LIGHT["muted"]
        if endpoint:
            axes.plot([-abs(endpoint["margin"])] * 2, [row - 0.42, row + 0.42],
                      color=LIGHT["fail"], lw=1.3, ls=(0, (2, 1.2)), zorder=2)  # fmt: skip
        if not value.known:
            axes.text(0.012, row, "not available", va="center", color=LIGHT["muted"], fontsize=7.5)
            continue
        axes.errorbar([value.estimate], [row], xerr=_errors(value), fmt=markers.get(outcome, "o"),
                      color=colour, ms=5 if endpoint else 3.6, elinewidth=1.4, capsize=2, zorder=3)  # fmt: skip
    axes.set_yticks(
        range(len(entries)),
        [f"{'★ ' if e.get('rare') else ''}{e['class']} (n={e['n']})" for e in entries],
    )
    axes.set(xlim=(-reach, reach), ylim=(len(entries) - 0.4, -0.6), xlabel="Difference in sensitivity")
    axes.xaxis.set_major_locator(MaxNLocator(5, symmetric=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: fixed(v, 2, signed=True)))
    axes.grid(False, axis="y")


CURVES = (
    ("Loss", (("val_loss", "-"), ("train_loss", ":"))),
    ("Validation AUC", (("val_auc", "-"),)),
    ("Validation balanced accuracy", (("val_balanced_accuracy", "-"),)),
    ("Validation rare-class recall", (("val_rare_recall", "-"),)),
)


def training(groups: Groups, key: Key) -> str:
    """Draw the training curves, a row per data set, a line per model and seed."""
    figure = Figure(figsize=(WIDTH, 2.75 * len(groups) + 0.25), layout="constrained")
    grid = figure.subplots(len(groups), len(CURVES), squeeze=False)
    for line, (data, members) in zip(grid, groups.items(), strict=True):
        runs = {c.family: c for c in members}.values()
        for axes, (title, columns) in zip(line, CURVES, strict=True):
            axes.set_title(title if len(groups) == 1 else f"{data}: {title}")
            for candidate in runs:
                _curve(axes, candidate, columns, key)
            axes.set_xlabel("Epoch")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            if not axes.lines:
                _note(axes, "not recorded")
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
        rows = [r for r in candidate.history if name in r and np.isfinite(r[name])]
        if rows:
            x = [row.get("epoch", i) for i, row in enumerate(rows)]
            axes.plot(x, [row[name] for row in rows], dash, lw=1.3,
                      marker="." if len(rows) < 3 else "", color=key.model_colours[candidate.model])  # fmt: skip


FIGURES: dict[str, Callable[[Groups, Key], str]] = {
    "latency_vs_rare_recall": trade_off,
    "reliability": reliability,
    "forest": forest,
    "training": training,
}


def draw(groups: Groups, key: Key) -> dict[str, str]:
    """Return every figure of `FIGURES` as SVG text."""
    with svg.style():
        return {name: make(groups, key) for name, make in FIGURES.items()}


def has_reference(candidate: Candidate, candidates: list[Candidate]) -> bool:
    """Return whether the candidate's reference is among the candidates."""
    return reference_of(candidate, candidates) is not None
