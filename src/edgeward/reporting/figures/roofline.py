"""Measured latency against the device's ceilings."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from edgeward.reporting import svg
from edgeward.reporting.figures.common import WIDTH, Groups, Key, errors, note, number
from edgeward.reporting.load import Candidate, Timing
from edgeward.reporting.numbers import milliseconds
from edgeward.reporting.palette import LIGHT

Shown = tuple[Candidate, Timing, dict[str, Any]]


def _explained(members: list[Candidate], device: str | None) -> list[Shown]:
    """Return what has a roofline, slowest last; of several seeds the first."""
    found: dict[tuple[str, str], Shown] = {}
    for candidate in members:
        timing = candidate.timing(device) if device else None
        explanation = (timing.profile.get("explanation") if timing else None) or {}
        if timing and explanation.get("roofline_ms") and timing.latency("p50").known:
            found.setdefault((candidate.model, candidate.recipe), (candidate, timing, explanation))
    return sorted(found.values(), key=lambda entry: number(entry[1].latency("p50").estimate))


def roofline(groups: Groups, key: Key) -> str:
    """Draw, per data set and device, the roofline and how far each candidate is from it."""
    rows = [
        (data, device, _explained(members, device))
        for data, members in groups.items()
        for device in dict.fromkeys(d for c in members for d in c.profiles) or [None]
    ]
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
        f"{c.model} {c.recipe} on {device}: measured {milliseconds(t.latency('p50').estimate)} ms, "
        f"roofline {milliseconds(e['roofline_ms'])} ms"
        for _, device, shown in rows
        for c, t, e in shown
    )
    return svg.standalone(figure, f"Measured latency against roofline time. {alt or 'Nothing.'}.")


def _rates(axes: Axes, shown: list[Shown], key: Key) -> None:
    """Draw the ceilings, and each candidate at its intensity and the rate that it reached."""
    placed = [(c, t, e) for c, t, e in shown if e.get("intensity") and e.get("macs")]
    ceilings = shown[0][2]["ceilings"]
    intensities = [e["intensity"] for _, _, e in placed] or [1.0]
    x = np.geomspace(min(*intensities, 1.0) / 2, max(*intensities, 10.0) * 8, 100)
    slopes = [point["gb_per_s"] for point in ceilings["copy"]]
    lines = (
        ("fp32", ceilings["fp32_gmac_per_s"], "-"),
        ("INT8", ceilings["int8_gmac_per_s"], "--"),
    )
    for name, rate, dash in lines:
        axes.plot(x, np.minimum(rate, max(slopes) * x), color=LIGHT["muted"], lw=1.1, ls=dash)
        axes.annotate(f"{name} {rate:.0f} GMAC/s", (x[-1], rate), ha="right", va="bottom",
                      color=LIGHT["muted"], fontsize=7.5)  # fmt: skip
    roof = max(ceilings["fp32_gmac_per_s"], ceilings["int8_gmac_per_s"])
    if min(slopes) < max(slopes):
        axes.plot(x, np.minimum(roof, min(slopes) * x), color=LIGHT["muted"], lw=0.8, ls=":")
    for candidate, timing, explanation in placed:
        rate = explanation["macs"] / number(timing.latency("p50").estimate) / 1e6
        axes.plot([explanation["intensity"]], [rate], key.markers[candidate.model], ms=6.5, mew=1.2,
                  color=key.colours[candidate.recipe],
                  mfc=key.colours[candidate.recipe] if timing.valid else LIGHT["surface"])  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="Intensity, MACs per byte moved",
             ylabel="Rate reached, GMAC/s", ylim=(None, 2 * roof))  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ink = LIGHT["muted"]
    handles = [
        Line2D([], [], ls="", marker=key.markers[m], color=ink, label=m)
        for m in dict.fromkeys(c.model for c, _, _ in shown)
    ]
    handles += [
        Line2D([], [], color=ink, lw=1.1, label=f"cache, {max(slopes):.0f} GB/s"),
        Line2D([], [], color=ink, lw=0.8, ls=":", label=f"memory, {min(slopes):.0f} GB/s"),
    ]
    axes.legend(handles=handles, loc="lower right", fontsize=6.8, ncols=2, handletextpad=0.4)


def _times(axes: Axes, shown: list[Shown], key: Key) -> None:
    """Draw for each candidate the roofline time, the median, and the factor between them."""
    for row, (candidate, timing, explanation) in enumerate(shown):
        latency, least = timing.latency("p50"), explanation["roofline_ms"]
        colour = key.colours[candidate.recipe]
        measured = number(latency.estimate)
        axes.plot([least, measured], [row, row], color=colour, lw=1.6, alpha=0.35, zorder=1)
        axes.plot([least], [row], "|", color=colour, ms=9, mew=1.8, zorder=2)
        axes.errorbar([measured], [row], xerr=errors(latency), fmt="o", ms=5, color=colour,
                      mfc=colour if timing.valid else LIGHT["surface"], capsize=2, zorder=3)  # fmt: skip
        end = latency.high or measured
        axes.annotate(f"{measured / least:.1f}×", (end, row), xytext=(7, 0), va="center",
                      textcoords="offset points", color=LIGHT["muted"], fontsize=7.5)  # fmt: skip
    axes.set_yticks(range(len(shown)), [f"{c.model} · {c.recipe}" for c, _, _ in shown])
    axes.set(xscale="log", xlabel="ms (tick: roofline time; dot: measured median with interval)",
             ylim=(-0.6, len(shown) - 0.4))  # fmt: skip
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(False, axis="y")
