"""Candidates timed in turns in one process: ratios of latencies that survive a noisy machine.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeward.core.errors import UserError
from edgeward.reporting.load import Candidate, read
from edgeward.reporting.numbers import Interval, interval

SCHEMA = "edgeward-interleave/1"
IDENTITY = ("data", "model", "seed", "recipe")


@dataclass(frozen=True)
class Ratio:
    """Latency of a candidate over that of another, both timed in turns on a device."""

    device: str
    candidate: Candidate
    reference: Candidate
    latency: Interval
    value: Interval
    rounds: int
    valid: bool
    reasons: list[str]

    @property
    def speedup(self) -> Interval:
        """How many times as fast as the other the candidate is."""
        low, mid, high = (
            1 / end if end else None
            for end in (self.value.high, self.value.estimate, self.value.low)
        )
        return Interval(mid, low, high, self.value.n)


def load(paths: Iterable[Path], candidates: Sequence[Candidate]) -> list[Ratio]:
    """Read the comparisons of all devices; candidates that are not in the sweep are left out.

    Raises
    ------
    UserError
        If a file is missing or broken.
    """
    known = {(c.data, c.model, c.seed, c.recipe): c for c in candidates}
    ratios = []
    for path in paths:
        content = read(path, "candidates timed in turns", ("schema", "device", "groups"))
        if content["schema"] != SCHEMA:
            raise UserError(
                f"{path}: schema is {content['schema']!r}, and this version reads '{SCHEMA}'. Run "
                "interleave again."
            )
        for group in content["groups"]:
            if not group["candidates"]:  # the engine refuses what they are compared with
                continue
            first, *others = group["candidates"]
            reference = known.get(_identity(first))
            for record in others:
                candidate = known.get(_identity(record))
                if reference is not None and candidate is not None:
                    ratios.append(
                        Ratio(
                            device=content["device"],
                            candidate=candidate,
                            reference=reference,
                            latency=interval(record["latency_ms"]),
                            value=interval(record["ratio"]),
                            rounds=group["rounds"],
                            valid=record["verdict"] == "VALID",
                            reasons=record["reasons"],
                        )
                    )
    return ratios


def _identity(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record[name] for name in IDENTITY)


def own_reference(ratios: Iterable[Ratio]) -> dict[tuple[str, str], Ratio]:
    """Return the comparisons of a candidate with its own reference, by candidate key and device."""
    return {
        (ratio.candidate.key, ratio.device): ratio
        for ratio in ratios
        if ratio.candidate.family == ratio.reference.family
    }


def between_models(ratios: Iterable[Ratio]) -> list[Ratio]:
    """Return the comparisons of models with another model."""
    return [r for r in ratios if r.candidate.family != r.reference.family]
