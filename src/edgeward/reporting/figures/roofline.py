"""Measured latency against the device's ceilings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from edgeward.core import svg
from edgeward.core.palette import LIGHT
from edgeward.core.text import milliseconds
from edgeward.records.explanation import CeilingsUsed
from edgeward.reporting.figures.common import (
    WIDTH,
    Groups,
    Key,
    errors,
    logarithmic,
    note,
    number,
    per_device,
)
from edgeward.reporting.load import Candidate, Timing


@dataclass(frozen=True)
class Shown:
    """A candidate with a roofline: the time that the ceilings allow, ms, and the ceilings."""

    candidate: Candidate
    timing: Timing
    roofline_ms: float
    ceilings: CeilingsUsed

    @property
    def measured(self) -> float:
        """Median latency, ms."""
        return number(self.timing.p50.estimate)


def _explained(members: list[Candidate], device: str | None) -> list[Shown]:
    """Return what has a roofline, slowest last; of several seeds the first."""
    found: dict[tuple[str, str], Shown] = {}
    for c in members:
        timing = c.timing(device)
        why = timing.profile.explanation if timing else None
        if timing and why and why.roofline_ms and why.ceilings and timing.p50.known:
            found.setdefault((c.model, c.recipe), Shown(c, timing, why.roofline_ms, why.ceilings))
    return sorted(found.values(), key=lambda shown: shown.measured)


def roofline(groups: Groups, key: Key) -> str:
    """Draw, per data set and device, the roofline and how far each candidate is from it."""
    rows = [(data, device, _explained(mine, device)) for data, device, mine in per_device(groups)]
    heights = [max(3.2, 1.0 + 0.24 * len(shown)) for _, _, shown in rows]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    grid = figure.subplots(len(rows), 2, squeeze=False, gridspec_kw={"height_ratios": heights})
    for (left, right), (data, device, shown) in zip(grid, rows, strict=True):
        title = f"{data} on {device}" if device else data
        if not shown:
            for axes in (left, right):
                axes.set_title(title)
                note(axes, "No candidate has a measured latency and a roofline time.")
            continue
        left.set_title(f"{title}: rate reached against intensity")
        _rates(left, shown, key)
        right.set_title("Measured latency and roofline time")
        _times(right, shown, key)
    alt = "; ".join(
        f"{s.candidate.model} {s.candidate.recipe} on {device} takes {milliseconds(s.measured)} ms, "
        f"{s.measured / s.roofline_ms:.1f} times its roofline time of {milliseconds(s.roofline_ms)} ms"
        for _, device, shown in rows
        for s in shown
    )
    return svg.standalone(
        figure,
        f"What the device allows, and what each candidate makes of it: {alt or 'nothing was measured'}.",
    )


def _rates(axes: Axes, shown: list[Shown], key: Key) -> None:
    """Draw the ceilings, and each candidate at its intensity and the rate that it reached."""
    placed = [
        (s, why.intensity, why.macs)
        for s in shown
        if (why := s.timing.profile.explanation) and why.intensity and why.macs
    ]
    ceilings = shown[0].ceilings
    intensities = [intensity for _, intensity, _ in placed] or [1.0]
    x = np.geomspace(min(*intensities, 1.0) / 2, max(*intensities, 10.0) * 8, 100)
    slopes = [point.gb_per_s for point in ceilings.copy_points]
    fp32, int8 = ceilings.fp32_gmac_per_s, ceilings.int8_gmac_per_s
    lines = (("fp32", fp32, "-"), ("INT8", int8, "--"))
    for name, rate, dash in lines:
        axes.plot(x, np.minimum(rate, max(slopes) * x), color=LIGHT["muted"], lw=1.1, ls=dash)
        axes.annotate(f"{name} {rate:.0f} GMAC/s", (x[-1], rate), ha="right", va="bottom",
                      color=LIGHT["muted"], fontsize=7.5)  # fmt: skip
    roof = max(fp32, int8)
    if min(slopes) < max(slopes):
        axes.plot(x, np.minimum(roof, min(slopes) * x), color=LIGHT["muted"], lw=0.8, ls=":")
    for s, intensity, macs in placed:
        colour = key.colours[s.candidate.recipe]
        axes.plot([intensity], [macs / s.measured / 1e6], key.markers[s.candidate.model], ms=6.5,
                  mew=1.2, color=colour, mfc=colour if s.timing.valid else LIGHT["surface"])  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="Intensity, MACs per byte moved",
             ylabel="Rate reached, GMAC/s", ylim=(None, 2 * roof))  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        logarithmic(axis, subs=(1,))
    ink = LIGHT["muted"]
    handles = [
        Line2D([], [], ls="", marker=key.markers[m], color=ink, label=m)
        for m in dict.fromkeys(s.candidate.model for s in shown)
    ]
    handles += [
        Line2D([], [], color=ink, lw=1.1, label=f"cache, {max(slopes):.0f} GB/s"),
        Line2D([], [], color=ink, lw=0.8, ls=":", label=f"memory, {min(slopes):.0f} GB/s"),
    ]
    axes.legend(handles=handles, loc="lower right", fontsize=6.8, ncols=2, handletextpad=0.4)


def _times(axes: Axes, shown: list[Shown], key: Key) -> None:
    """Draw for each candidate the roofline time, the median, and the factor between them."""
    for row, s in enumerate(shown):
        latency, least, measured = s.timing.p50, s.roofline_ms, s.measured
        colour = key.colours[s.candidate.recipe]
        axes.plot([least, measured], [row, row], color=colour, lw=1.6, alpha=0.35, zorder=1)
        axes.plot([least], [row], "|", color=colour, ms=9, mew=1.8, zorder=2)
        axes.errorbar([measured], [row], xerr=errors(latency), fmt="o", ms=5, color=colour,
                      mfc=colour if s.timing.valid else LIGHT["surface"], capsize=2, zorder=3)  # fmt: skip
        end = latency.high or measured
        axes.annotate(f"{measured / least:.1f}×", (end, row), xytext=(7, 0), va="center",
                      textcoords="offset points", color=LIGHT["muted"], fontsize=7.5)  # fmt: skip
    axes.set_yticks(
        range(len(shown)), [f"{s.candidate.model} · {s.candidate.recipe}" for s in shown]
    )
    axes.set(xscale="log", xlabel="ms (tick: roofline time; dot: measured median with interval)",
             ylim=(-0.6, len(shown) - 0.4))  # fmt: skip
    axes.margins(x=0.12)
    logarithmic(axes.xaxis)
    axes.grid(False, axis="y")
