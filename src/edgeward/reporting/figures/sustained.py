"""Latency over minutes without a pause."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edgeward.core import svg
from edgeward.core.palette import LIGHT
from edgeward.core.text import fixed
from edgeward.records.sustained import Sustained
from edgeward.reporting.figures.common import WIDTH, Groups, Key, number, per_device
from edgeward.reporting.load import Candidate
from edgeward.reporting.numbers import bracket

ANSWERS = {
    "holds": "holds its latency",
    "slows": "slows down",
    "inconclusive": "does not show whether it holds its latency",
}


def runs(members: list[Candidate], device: str) -> list[tuple[Candidate, Sustained]]:
    """Return the candidates with a sustained run on a device; of several seeds the first."""
    found: dict[tuple[str, str], tuple[Candidate, Sustained]] = {}
    for c in members:
        profile = c.profiles.get(device)
        if profile and profile.sustained:
            found.setdefault((c.model, c.recipe), (c, profile.sustained))
    return list(found.values())


def said(candidate: Candidate, device: str, run: Sustained) -> str:
    """Return in one sentence what a run showed; from one that is INVALID nothing follows."""
    how = ANSWERS[run.answer] if run.verdict == "VALID" else f"is INVALID ({run.reasons[0]})"
    return (
        f"{candidate.model} {candidate.recipe} {how} on {device} over {run.duration_s / 60:.0f} minutes: "
        f"the last {run.edge_s:.0f} s take {fixed(run.ratio.estimate, 3)} {bracket(run.ratio, 3)} times as long as the first, "
        f"{1 + run.max_slowdown:g} allowed; {100 * run.held:.0f} % of the windows are within that"
    )


def sustained(groups: Groups, key: Key) -> str:
    """Draw, per data set and device, the median of each window against the first stretch; empty where nothing ran for minutes."""
    panels = [
        (data, device, found)
        for data, device, mine in per_device(groups)
        if device and (found := runs(mine, device))
    ]
    if not panels:
        return ""
    figure = Figure(figsize=(WIDTH, 2.6 * len(panels) + 0.3), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (data, device, found) in zip(grid, panels, strict=True):
        for candidate, run in found:
            _curve(axes, candidate, run, key)
        limit = 1 + max(run.max_slowdown for _, run in found)
        axes.axhline(limit, color=LIGHT["muted"], lw=0.8, ls=":")
        axes.set(title=f"{data} on {device}", xlabel="Minutes", ylabel="Median / first stretch")
        axes.legend(loc="upper left", ncols=4)
    return svg.standalone(
        figure,
        "Latency over minutes without a pause. "
        + "; ".join(said(c, device, run) for _, device, found in panels for c, run in found)
        + ".",
    )


def _curve(axes: Axes, candidate: Candidate, run: Sustained, key: Key) -> None:
    """Draw a run's windows with their intervals; dashed where it is INVALID."""
    first = [w.p50_ms.estimate for w in run.windows if w.start_s < run.edge_s]
    base = sorted(first)[len(first) // 2]
    minutes = [(w.start_s + w.duration_s / 2) / 60 for w in run.windows]
    middle, low, high = (
        [number(getattr(w.p50_ms, end)) / base for w in run.windows]
        for end in ("estimate", "low", "high")
    )
    colour = key.colours[candidate.recipe]
    axes.fill_between(minutes, low, high, color=colour, alpha=0.25, lw=0)
    axes.plot(minutes, middle, color=colour, lw=1.2, ls="-" if run.verdict == "VALID" else "--",
              marker=key.markers[candidate.model], markevery=max(1, len(minutes) // 12), ms=4,
              label=key.label(candidate))  # fmt: skip
