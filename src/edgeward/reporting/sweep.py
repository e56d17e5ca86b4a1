"""A sweep as it was measured: its candidates, what they are compared with, and how fast they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from edgeward.records.base import Interval
from edgeward.records.failure import Missing
from edgeward.records.interleave import Interleave
from edgeward.reporting.load import Candidate, load_all
from edgeward.reporting.numbers import inverse, ratio

if TYPE_CHECKING:
    from edgeward.pipeline.paths import ResultPaths


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


@dataclass(frozen=True)
class Speed:
    """How many times as fast as its reference a candidate is.

    Attributes
    ----------
    in_turns : True if both took turns in one process, False if they were timed one after the other.
    valid : whether what it was computed from is VALID.
    """

    factor: Interval
    in_turns: bool
    valid: bool


@dataclass(frozen=True)
class Sweep:
    """The candidates of a sweep, each family's reference first, those timed in turns, and what is missing for failures."""

    candidates: list[Candidate]
    ratios: list[Ratio] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    besides: list[str] = field(default_factory=list)

    @classmethod
    def read(
        cls,
        candidates: Iterable[ResultPaths],
        turns: Iterable[Path] = (),
        missing: Iterable[Missing] = (),
        besides: Iterable[str] = (),
    ) -> Self:
        """Read all files of a sweep.

        Parameters
        ----------
        turns : comparisons in turns, a file per device.
        missing : candidates, or what devices say of them, that failures keep from the sweep.
        besides : what else they keep from it, in sentences.

        Raises
        ------
        UserError
            If a file is missing or broken, or files contradict each other.
        """
        lacking = list(missing)
        found = load_all(candidates, or_none=bool(lacking))
        ratios = [r for path in turns for r in _in_turns(Interleave.read(path), found)]
        return cls(found, ratios, lacking, list(besides))

    @cached_property
    def groups(self) -> dict[str, list[Candidate]]:
        """The candidates by data set."""
        groups: dict[str, list[Candidate]] = {}
        for candidate in self.candidates:
            groups.setdefault(candidate.data, []).append(candidate)
        return groups

    @cached_property
    def _references(self) -> dict[tuple[str, str, int], Candidate]:
        return {c.family: c for c in reversed(self.candidates) if c.is_reference}

    def reference(self, candidate: Candidate) -> Candidate | None:
        """Return the sibling that serves as reference (the candidate itself if it is one), or None."""
        return self._references.get(candidate.family)

    @property
    def between_models(self) -> list[Ratio]:
        """The comparisons in turns of models with another model."""
        return [r for r in self.ratios if r.candidate.family != r.reference.family]

    def in_turns(self, candidate: Candidate, device: str | None) -> Speed | None:
        """Return the speed-up over the own reference from inferences in turns, if there were any."""
        own = (r for r in self.ratios if r.candidate is candidate and r.device == device)
        found = next((r for r in own if r.reference.family == candidate.family), None)
        return Speed(inverse(found.value), True, found.valid) if found else None

    def apart(self, candidate: Candidate, device: str | None) -> Speed | None:
        """Return the reference's median latency over the candidate's, both in the same setting."""
        reference = self.reference(candidate)
        if reference is None or reference is candidate:
            return None
        mine, other = candidate.timing(device), reference.timing(device)
        if mine is None or other is None:
            return None
        if (mine.setting.threads, mine.setting.batch) != (
            other.setting.threads,
            other.setting.batch,
        ):
            return None
        factor = ratio(other.p50, mine.p50)
        return Speed(factor, False, mine.valid and other.valid) if factor.known else None

    def speed(self, candidate: Candidate, device: str | None) -> Speed | None:
        """Return the speed-up to quote: of inferences in turns where there are any.

        Two latencies of the same machine, minutes apart, may differ by more than the models do. None for a
        reference, and where one of the two was not measured in the same setting.
        """
        return self.in_turns(candidate, device) or self.apart(candidate, device)


def devices_of(members: Iterable[Candidate]) -> list[str]:
    """List the devices on which any of the candidates was profiled."""
    return list(dict.fromkeys(device for c in members for device in c.profiles))


def _in_turns(content: Interleave, candidates: list[Candidate]) -> list[Ratio]:
    """Return the ratios of a device; candidates that are not in the sweep are left out."""
    known = {(c.data, c.model, c.seed, c.recipe): c for c in candidates}
    found = []
    for group in content.groups:
        if not group.candidates:  # the engine refuses what they are compared with
            continue
        first, *others = [
            (m, known.get((m.data, m.model, m.seed, m.recipe))) for m in group.candidates
        ]
        for member, candidate in others:
            if first[1] is not None and candidate is not None:
                found.append(
                    Ratio(
                        device=content.device,
                        candidate=candidate,
                        reference=first[1],
                        latency=member.latency_ms,
                        value=member.ratio,
                        rounds=group.rounds,
                        valid=member.verdict == "VALID",
                        reasons=member.reasons,
                    )
                )
    return found
