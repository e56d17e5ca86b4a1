"""Latency, memory and traffic against input size: what was measured, and where models cross."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeward.reporting.load import PROFILE_REQUIRED, Timing, read
from edgeward.reporting.numbers import Interval

BUILD_REQUIRED = ("model", "stream", "size", "status")


@dataclass(frozen=True)
class Cell:
    """One untrained network at one input size.

    Attributes
    ----------
    stream : "cnn", "hybrid" or "ssm".
    size : side of the square image, pixels.
    reason : why the network cannot take this size, or the engine the network; None if it can.
    timing : the first setting of the device; None if refused.
    """

    model: str
    stream: str
    size: int
    reason: str | None
    timing: Timing | None

    @property
    def p50(self) -> Interval:
        """Median latency in ms."""
        return self.timing.latency("p50") if self.timing else Interval()

    @property
    def valid(self) -> bool:
        """True where there is a timing and it met its own conditions."""
        return self.timing is not None and self.timing.valid

    def setting(self, name: str) -> float | None:
        """Return a figure of the timed setting, e.g. ``load_ms`` or ``peak_memory_mb``."""
        return self.timing.setting.get(name) if self.timing else None

    def row(self) -> dict[str, Any]:
        """Return the cell as a flat record, units in the names."""
        profile = self.timing.profile if self.timing else {}
        model = profile.get("model", {})
        return {
            "model": self.model,
            "stream": self.stream,
            "size": self.size,
            "timing": self.timing.setting.get("verdict") if self.timing else "refused",
            "p50_ms": self.p50.estimate,
            "p50_ms_low": self.p50.low,
            "p50_ms_high": self.p50.high,
            "load_ms": self.setting("load_ms"),
            "peak_memory_mb": self.setting("peak_memory_mb"),
            "parameters": model.get("parameters"),
            "macs": model.get("macs"),
            "macs_not_counted": " ".join(model.get("macs_not_counted") or []),
            "bytes_moved": (profile.get("explanation") or {}).get("bytes_moved"),
            "reason": self.reason,
        }


def load(files: Iterable[tuple[Path, Path]]) -> list[Cell]:
    """Read the cells from pairs of ``build.json`` and ``{device}.json``.

    Raises
    ------
    UserError
        If a file is missing or broken.
    """
    cells = []
    for build, profile in files:
        facts = read(build, "scaling", BUILD_REQUIRED)
        timing, reason = None, facts.get("reason")
        if facts["status"] != "refused":
            content = read(profile, "profile of an untrained network", PROFILE_REQUIRED)
            reason = content.get("refused")
            if reason is None:
                timing = Timing(content["device"], content, content["settings"][0])
        cells.append(Cell(facts["model"], facts["stream"], facts["size"], reason, timing))
    return cells


def lines(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    """Group the measured cells by model, ascending in size."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        mine = found.setdefault(cell.model, [])
        if cell.p50.known:
            mine.append(cell)
    return {model: sorted(mine, key=lambda cell: cell.size) for model, mine in found.items()}


def exponent(mine: Sequence[Cell]) -> float | None:
    """Return the growth over the two largest sizes: latency ~ pixels^exponent.

    1 is linear in pixels (convolutions, scans), 2 is quadratic (attention among all pixels).
    """
    if len(mine) < 2:
        return None
    (before, last) = mine[-2:]
    return _log_ratio(last, before) / (2 * math.log(last.size / before.size))


def _log_ratio(a: Cell, b: Cell) -> float:
    assert a.p50.estimate is not None
    assert b.p50.estimate is not None
    return math.log(a.p50.estimate / b.p50.estimate)


@dataclass(frozen=True)
class Crossover:
    """Below `size` one model is faster, above it the other.

    Attributes
    ----------
    below, above : the model that is faster on either side.
    size : where the lines cross, pixels, interpolated in the logarithms of size and latency.
    ms : the latency of both there.
    between : the neighbouring sizes that were measured.
    shown : whether on both sides there is a size at which the intervals of the medians are disjoint
        in this order, all timings VALID. Otherwise the crossing may be noise.
    """

    below: str
    above: str
    size: float
    ms: float
    between: tuple[int, int]
    shown: bool


def crossovers(cells: Iterable[Cell]) -> list[Crossover]:
    """Find where the lines of two models cross, for all pairs of models, by ascending size."""
    found = []
    for one, other in itertools.combinations(lines(cells).values(), 2):
        by_size = {cell.size: cell for cell in other}
        pairs = [(cell, by_size[cell.size]) for cell in one if cell.size in by_size]
        differing = [(a, b, d) for a, b in pairs if (d := _log_ratio(a, b))]
        for (a0, b0, d0), (a1, _, d1) in itertools.pairwise(differing):
            if d0 * d1 > 0:
                continue
            share = d0 / (d0 - d1)
            below, above = (a0, b0) if d0 < 0 else (b0, a0)
            found.append(
                Crossover(
                    below=below.model,
                    above=above.model,
                    size=_between(a0.size, a1.size, share),
                    ms=_between(a0.p50.estimate or 0, a1.p50.estimate or 0, share),
                    between=(a0.size, a1.size),
                    shown=_ordered(pairs, below.model, range(a0.size + 1))
                    and _ordered(pairs, above.model, range(a1.size, pairs[-1][0].size + 1)),
                )
            )
    return sorted(found, key=lambda c: (c.size, c.below, c.above))


def section(cells: Sequence[Cell], crossings: Sequence[Crossover], figure: str) -> dict[str, Any]:
    """Gather what the page shows of at least one cell; `figure` is an SVG document."""
    timing = next((cell.timing for cell in cells if cell.timing), None)
    measured = lines(cells)
    return {
        "figure": figure,
        "crossovers": list(crossings),
        "device": timing.device if timing else "no device",
        "threads": timing.threads if timing else None,
        "batch": timing.batch if timing else None,
        "models": [
            {
                "model": model,
                "stream": next(cell.stream for cell in cells if cell.model == model),
                "exponent": exponent(mine),
                "entries": [
                    {"row": cell.row(), "p50": cell.p50} for cell in cells if cell.model == model
                ],
            }
            for model, mine in measured.items()
        ],
    }


def _between(low: float, high: float, share: float) -> float:
    """Interpolate in logarithms."""
    return math.exp(math.log(low) + share * math.log(high / low))


def _ordered(pairs: Iterable[tuple[Cell, Cell]], faster: str, sizes: range) -> bool:
    """Tell whether `faster` is so beyond its interval at one of `sizes`."""
    for a, b in pairs:
        first, second = (a, b) if a.model == faster else (b, a)
        ends = first.p50.high, second.p50.low
        if a.size in sizes and a.valid and b.valid and None not in ends:
            assert ends[0] is not None
            assert ends[1] is not None
            if ends[0] < ends[1]:
                return True
    return False
