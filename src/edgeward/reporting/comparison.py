"""The comparison: one row per candidate and device, the same in page, CSV, JSON, terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from edgeward.records.base import Interval
from edgeward.records.profile import Energy, Profile
from edgeward.records.safety import VerdictWord
from edgeward.reporting.load import Candidate, Timing
from edgeward.reporting.sweep import Sweep
from edgeward.tasks.base import Metric

Value = str | int | float | None
Line = dict[str, Value | Interval]  # of a table
VALIDITY = {True: "VALID", False: "INVALID"}


class Quoted(NamedTuple):
    """A speed-up, VALID or INVALID (None where there is none), and whether both models took turns."""

    factor: Interval
    timing: str | None
    in_turns: bool


@dataclass(kw_only=True)
class Row:
    """One candidate on one device; device None if it was not profiled.

    Times are in ms, sizes in MB (10^6 bytes), memory in MB above the process's baseline.

    Attributes
    ----------
    timing : VALID, INVALID, REFUSED (the engine cannot load the model) or None (not profiled).
    speedup : the reference's p50 over the candidate's on the same device and setting, timed one after the other.
    paired_speedup : the same from inferences taken in turns.
    metrics, deltas : the columns of the task, and their differences to the reference.
    n : test cases, groups, and what the task counts.
    """

    data: str
    task: str
    model: str
    recipe: str
    seed: int
    device: str | None
    precision: str
    verdict: VerdictWord
    timing: str | None = None
    threads: int | None = None
    batch: int | None = None
    resolution: str | None = None
    warmup: int | None = None
    n_timed: int | None = None
    p50_ms: Interval = field(default_factory=Interval)
    p90_ms: Interval = field(default_factory=Interval)
    speedup: Interval = field(default_factory=Interval)
    speedup_timing: str | None = None
    paired_speedup: Interval = field(default_factory=Interval)
    paired_timing: str | None = None
    energy: str | None = None
    energy_gross_mj: float | None = None
    energy_net_mj: float | None = None
    load_ms: float | None = None
    peak_memory_mb: float | None = None
    file_mb: float | None = None
    parameters: int | None = None
    macs: int | None = None
    int8_mac_share: float | None = None
    bytes_moved: int | None = None
    intensity: float | None = None
    roofline_ms: float | None = None
    layout_changes: int | None = None
    fused_share: float | None = None
    outside_delegates: float | None = None
    metrics: dict[str, Interval]
    deltas: dict[str, Interval]
    n: dict[str, int]

    @property
    def quoted(self) -> Quoted:
        """The speed-up to show: in turns where both took turns, since a machine changes within minutes."""
        if self.paired_speedup.known:
            return Quoted(self.paired_speedup, self.paired_timing, True)
        return Quoted(self.speedup, self.speedup_timing, False)

    def line(self) -> Line:
        """Return the row with a column for each metric, difference and count."""
        found: Line = {}
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if name == "metrics":
                found |= value
            elif name in ("deltas", "n"):
                found |= {f"{name.removesuffix('s')}_{what}": v for what, v in value.items()}
            else:
                found[name] = value
        return found

    def flat(self) -> dict[str, Value]:
        """Return the row as CSV and JSON hold it."""
        return flat(self.line())


def flat(line: Line) -> dict[str, Value]:
    """Return a line of a table as CSV and JSON hold it: of an interval three columns."""
    found: dict[str, Value] = {}
    for name, value in line.items():
        if isinstance(value, Interval):
            ends = {"": value.estimate, "_low": value.low, "_high": value.high}
            found |= {f"{name}{end}": number for end, number in ends.items()}
        else:
            found[name] = value
    return found


def rows(sweep: Sweep) -> list[Row]:
    """Return the comparison, a row per candidate and device; rows of different tasks have different metrics."""
    return [
        _row(sweep, c, device) for c in sweep.candidates for device in (*c.profiles,) or (None,)
    ]


def _row(sweep: Sweep, candidate: Candidate, device: str | None) -> Row:
    columns, n = candidate.task.columns, candidate.safety.n
    row = Row(
        data=candidate.data,
        task=candidate.task.name,
        model=candidate.model,
        recipe=candidate.recipe,
        seed=candidate.seed,
        device=device,
        precision=candidate.built.precision,
        verdict=candidate.outcome,
        metrics={name: candidate.metric(name) for name in columns},
        deltas={name: candidate.difference(name) for name in columns},
        n={"test": n["test"], "groups": n["groups"], **candidate.counts},
    )
    if device is not None:
        _measure(row, candidate.profiles[device], candidate.timing(device))
    if apart := sweep.apart(candidate, device):
        row.speedup, row.speedup_timing = apart.factor, VALIDITY[apart.valid]
    if paired := sweep.in_turns(candidate, device):
        row.paired_speedup, row.paired_timing = paired.factor, VALIDITY[paired.valid]
    return row


def _measure(row: Row, profile: Profile, timing: Timing | None) -> None:
    """Fill in what was measured on the device."""
    row.timing = None if profile.refused is None else "REFUSED"
    row.energy = profile.energy.status
    if isinstance(profile.energy, Energy) and profile.energy.verdict == "VALID":
        row.energy_gross_mj = profile.energy.gross_mj.median
        row.energy_net_mj = profile.energy.net_mj.median
    row.file_mb = profile.model.file_bytes / 1e6
    row.parameters, row.macs = profile.model.parameters, profile.model.macs
    row.int8_mac_share = profile.int8_mac_share
    if explained := profile.explanation:
        row.bytes_moved, row.intensity = explained.bytes_moved, explained.intensity
        row.roofline_ms, row.layout_changes = explained.roofline_ms, explained.layout_changes
        row.fused_share = explained.fused_share
        row.outside_delegates = explained.outside_delegates
    if timing:
        setting = timing.setting
        row.timing, row.threads, row.batch = setting.verdict, setting.threads, setting.batch
        row.resolution = "x".join(map(str, setting.resolution))
        row.warmup, row.n_timed = setting.warmup, setting.n
        row.p50_ms, row.p90_ms = timing.p50, timing.latency("p90")
        row.load_ms, row.peak_memory_mb = setting.load_ms, setting.peak_memory_mb


def missing_rows(sweep: Sweep) -> list[dict[str, Value]]:
    """Return a flat row for each candidate, or device of one, that a failure keeps from the sweep."""
    return [
        {
            **{key: getattr(m, key) for key in ("data", "model", "recipe", "seed", "device")},
            "verdict": "failed" if m.device is None else None,
            "timing": None if m.device is None else "FAILED",
            "failed_stage": m.stage,
            "failure": m.reason,
        }
        for m in sweep.missing
    ]


def columns(members: Sequence[Candidate], names: Iterable[str]) -> list[Metric]:
    """Return those of a task's metrics that any of the candidates has."""
    known = [name for name in names if any(c.metric(name).known for c in members)]
    return [members[0].task.metric(name) for name in known]


def to_csv(table: Sequence[dict[str, Value]]) -> str:
    """Return flat rows as CSV text with a header; absent values are empty.

    Columns are those that some row has: what only other tasks have is absent.
    """
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in table for name in row))
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


@dataclass(frozen=True)
class Range:
    """A number over seeds; `n` of them have it."""

    mean: float | None
    low: float | None
    high: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Range:
        there = [value for value in values if value is not None]
        mean = sum(there) / len(there) if there else None
        return cls(mean, min(there, default=None), max(there, default=None), len(there))


@dataclass(frozen=True)
class OverSeeds:
    """A candidate on a device over its seeds; latency of VALID timings only."""

    model: str
    recipe: str
    device: str | None
    seeds: int
    verdicts: dict[str, int]
    p50_ms: Range
    metrics: dict[str, Range]


def over_seeds(table: Iterable[Row]) -> list[OverSeeds]:
    """Summarise the candidates of a data set that were run with at least two seeds."""
    groups: dict[tuple[str, str, str | None], list[Row]] = {}
    for row in table:
        groups.setdefault((row.model, row.recipe, row.device), []).append(row)
    return [
        OverSeeds(
            *key,
            seeds=len(mine),
            verdicts={
                v: sum(r.verdict == v for r in mine) for v in dict.fromkeys(r.verdict for r in mine)
            },
            p50_ms=Range.of(r.p50_ms.estimate for r in mine if r.timing == "VALID"),
            metrics={
                name: Range.of(r.metrics[name].estimate for r in mine) for name in mine[0].metrics
            },
        )
        for key, mine in groups.items()
        if len(mine) > 1
    ]
