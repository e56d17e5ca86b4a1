"""Latency, memory and traffic against input size: what was measured, and where models cross."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeward.records.base import Interval, Record
from edgeward.records.profile import Profile
from edgeward.records.scaling import Build
from edgeward.reporting.comparison import Value
from edgeward.reporting.load import Timing


@dataclass(frozen=True)
class Cell:
    """One untrained network at one input size.

    Attributes
    ----------
    family : "cnn", "hybrid" or "ssm".
    size : side of the square image, pixels.
    reason : why the network cannot take this size, or the engine the network; None if it can.
    timing : the first setting of the device; None if refused.
    """

    model: str
    family: str
    size: int
    reason: str | None
    timing: Timing | None

    @property
    def p50(self) -> Interval:
        """Median latency in ms."""
        return self.timing.p50 if self.timing else Interval()

    @property
    def valid(self) -> bool:
        """True where there is a timing and it met its own conditions."""
        return self.timing is not None and self.timing.valid

    @property
    def peak_memory_mb(self) -> float | None:
        """Peak memory above the process before loading, MB."""
        return self.timing.setting.peak_memory_mb if self.timing else None

    def row(self) -> dict[str, Value]:
        """Return the cell as a flat record, units in the names."""
        profile = self.timing.profile if self.timing else None
        explained = profile.explanation if profile else None
        return {
            "model": self.model,
            "family": self.family,
            "size": self.size,
            "timing": self.timing.setting.verdict if self.timing else "refused",
            "p50_ms": self.p50.estimate,
            "p50_ms_low": self.p50.low,
            "p50_ms_high": self.p50.high,
            "load_ms": self.timing.setting.load_ms if self.timing else None,
            "peak_memory_mb": self.peak_memory_mb,
            "parameters": profile.model.parameters if profile else None,
            "macs": profile.model.macs if profile else None,
            "macs_not_counted": " ".join(profile.model.macs_not_counted) if profile else "",
            "bytes_moved": explained.bytes_moved if explained else None,
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
    for build, measured in files:
        facts = Build.read(build)
        timing, reason = None, facts.reason
        if facts.status != "refused":
            profile = Profile.read(measured)
            reason = profile.refused
            timing = None if reason else Timing(profile, profile.settings[0])
        cells.append(Cell(facts.model, facts.family, facts.size, reason, timing))
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


class Crossover(Record):
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


@dataclass(frozen=True)
class Line:
    """A model over the sizes: `exponent` as in `exponent`."""

    model: str
    family: str
    exponent: float | None
    cells: list[Cell]


@dataclass(frozen=True)
class Section:
    """What the page shows of the networks at several sizes; `figure` is an SVG document."""

    figure: str
    crossovers: list[Crossover]
    timing: Timing | None
    lines: list[Line]


def section(cells: Sequence[Cell], crossings: list[Crossover], figure: str) -> Section:
    """Gather what the page shows of at least one cell."""
    timing = next((cell.timing for cell in cells if cell.timing), None)
    mine = {model: [cell for cell in cells if cell.model == model] for model in lines(cells)}
    found = [
        Line(model, mine[model][0].family, exponent(measured), mine[model])
        for model, measured in lines(cells).items()
    ]
    return Section(figure, crossings, timing, found)


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
