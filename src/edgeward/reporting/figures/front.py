"""The front of time and harm from which a recipe took its placement of integer operators, and what was measured of it."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from edgeward.core import svg
from edgeward.core.palette import LIGHT
from edgeward.core.text import milliseconds
from edgeward.reporting.figures.common import Groups, Key, panels
from edgeward.reporting.load import Candidate

Point = tuple[float, float]  # ms, harm


def front(groups: Groups, key: Key) -> str:
    """Draw expected latency (ms) against harm to the safety constraint, a panel per network and seed; nothing where no recipe has a front.

    Squares are the placements on the front, as expected from the times of their operators; beside them what was measured of the
    one that ships, and of the greedy search, where the sweep has it.
    """
    everyone = [c for members in groups.values() for c in members]
    fronts = [(c, effect) for c in everyone if (effect := _effect(c, "front")) is not None]
    fronts = [(c, effect) for c, effect in fronts if _reference_ms(c, everyone, effect) is not None]
    if not fronts:
        return ""
    figure, grid = panels(len(fronts), columns=2, height=3.4)
    said = []
    for axes, (candidate, effect) in zip(grid, fronts, strict=False):
        said.append(_panel(axes, candidate, effect, everyone, key))
    return svg.standalone(figure, f"Latency against harm. {' '.join(said)}")


def _effect(candidate: Candidate, holds: str) -> dict[str, Any] | None:
    """Return what the step did that recorded this."""
    return next((dict(e) for e in candidate.built.effects if e.get(holds)), None)


def _p50(candidate: Candidate, device: str) -> float | None:
    timing = candidate.timing(device)
    return timing.p50.estimate if timing else None


def _reference_ms(
    candidate: Candidate, everyone: list[Candidate], effect: dict[str, Any]
) -> float | None:
    mine = (c for c in everyone if c.family == candidate.family and c.is_reference)
    return next((ms for c in mine if (ms := _p50(c, effect["device"])) is not None), None)


def _panel(
    axes: Axes, candidate: Candidate, effect: dict[str, Any], everyone: list[Candidate], key: Key
) -> str:
    device, reference = effect["device"], _reference_ms(candidate, everyone, effect)
    assert reference is not None
    colour = key.colours[candidate.recipe]

    def expected(point: dict[str, Any]) -> Point:
        return reference - (effect["float_ms"] - point["ms"]), point["harm"]

    points = [expected(point) for point in effect["front"]]
    axes.plot(*zip(*points, strict=True), "s-", ms=4, lw=1, color=LIGHT["muted"],
              label="front, expected")  # fmt: skip
    chosen = expected(effect["chosen"])
    axes.plot(*chosen, "s", ms=8, mfc="none", mec=colour, mew=1.3, label="chosen")
    said = [
        f"{candidate.model} seed {candidate.seed} on {device}: {len(points)} placements, chosen "
        f"{milliseconds(chosen[0])} ms at harm {chosen[1]:.3g}"
    ]
    measured = [(candidate, chosen[1])]
    for other in everyone:
        greedy = _effect(other, "order")
        if other.family == candidate.family and greedy is not None:
            left = greedy["harm"].items()
            measured.append((other, sum(max(0.0, h) for n, h in left if n not in greedy["float"])))
    for other, harm in measured:
        ms = _p50(other, device)
        if ms is not None:
            axes.plot([ms], [harm], key.markers[other.model], ms=7, color=key.colours[other.recipe],
                      label=f"{other.recipe}, measured")  # fmt: skip
            said.append(f"{other.recipe} measured {milliseconds(ms)} ms at harm {harm:.3g}")
    axes.axvline(reference, color=LIGHT["muted"], lw=0.9, ls=(0, (2, 2)))
    axes.set(title=f"{candidate.model}, seed {candidate.seed}, on {device}", xlabel="Latency, ms",
             ylabel="Harm, summed over operators")  # fmt: skip
    axes.legend(fontsize=7)
    return "; ".join(said) + f"; in float {milliseconds(reference)} ms."
