"""Failure signatures that only show against other candidates, and those that the profiles hold.

Standard library only, since the comparison uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeward.reporting.comparison import Ratios, speed
from edgeward.reporting.load import Candidate, by_data, reference_of
from edgeward.reporting.numbers import Interval, bracket, fixed, interval

Record = dict[str, Any]

TITLES = {
    "memory_bound": "Bound by memory, not by MACs",
    "fusion_broken": "Layout changes break fusion",
    "float_islands": "Float islands in an INT8 graph",
    "recurrence_per_token": "Recurrence runs token by token",
    "scalar_kernels": "Kernels without products far from the memory's speed",
    "flops_rank": "MACs mislead about its latency",
    "int8_slower": "INT8 is slower than fp32",
}


def _ranks(values: Sequence[float]) -> list[float]:
    """Return the ranks from 1, ties at their mean."""
    return [
        sum(other < value for other in values) + (1 + sum(other == value for other in values)) / 2
        for value in values
    ]


def _record(
    candidate: Candidate, device: str, name: str, present: bool | None,
    evidence: dict[str, Any], text: str, advice: str,
) -> Record:  # fmt: skip
    return {
        "data": candidate.data, "model": candidate.model, "seed": candidate.seed,
        "recipe": candidate.recipe, "device": device, "name": name, "present": present,
        "evidence": evidence, "text": text, "advice": advice if present else "",
    }  # fmt: skip


def flops_rank(members: Sequence[Candidate], device: str) -> list[Record]:
    """Compare the rank by MACs with that by latency, over the fp32 candidates of a data set.

    A candidate shows the signature if it is slower than its MACs promise by at least the share
    ``rank_gap`` of the candidates compared; that of its device's configuration.
    """
    shown, macs, latencies = [], [], []
    for candidate in members:
        timing = candidate.timing(device)
        if candidate.built["precision"] != "fp32" or timing is None or not timing.valid:
            continue
        count = interval(timing.profile["model"].get("macs")).estimate
        latency = timing.latency("p50").estimate
        limits = _limits(timing.profile)
        if count is not None and latency is not None and limits is not None:
            shown.append((candidate, limits))
            macs.append(count)
            latencies.append(latency)
    n = len(shown)
    if n < 3:
        return []
    records = []
    for (candidate, limits), first, second in zip(
        shown, _ranks(macs), _ranks(latencies), strict=True
    ):
        gap = limits["rank_gap"]
        records.append(
            _record(
                candidate, device, "flops_rank", second - first >= max(1.0, gap * n),
                {"macs_rank": first, "latency_rank": second, "candidates": n, "threshold": gap},
                f"Of {n} fp32 candidates it has rank {first:g} by MACs and rank {second:g} by latency.",
                "Choose by measured latency. What else takes its time is in its operators and in its "
                "other signatures.",
            )
        )  # fmt: skip
    return records


def int8_slower(members: Sequence[Candidate], device: str, ratios: Ratios) -> list[Record]:
    """Compare INT8 candidates with their reference, pair by pair where that was measured."""
    records = []
    for candidate in members:
        if candidate.is_reference or candidate.built["precision"] != "int8":
            continue
        reference = reference_of(candidate, members)
        if reference is None or None in (candidate.timing(device), reference.timing(device)):
            continue
        found = speed(candidate, device, list(members), ratios)
        factor = found.factor if found else Interval()
        evidence = {
            "speedup": factor.estimate, "low": factor.low, "high": factor.high,
            "interleaved": found is not None and found.in_turns,
        }  # fmt: skip
        text = f"{fixed(factor.estimate, 2)} {bracket(factor, 2)} times the speed of its reference."
        present: bool | None = factor.high is not None and factor.high < 1
        if found is not None and not found.valid:
            what = "comparison in turns" if found.in_turns else "timing of one of the two"
            present, text = None, f"The {what} is INVALID."
        elif factor.high is None:
            present, text = None, "Its speed cannot be compared with that of its reference."
        records.append(
            _record(
                candidate, device, "int8_slower", present, evidence, text,
                "Look at its float islands and its kernels without products; quantize convolutions only, use "
                "another engine, or stay with fp32.",
            )
        )  # fmt: skip
    return records


def _limits(profile: dict[str, Any]) -> dict[str, float] | None:
    explain = (profile.get("config") or {}).get("explain") or {}
    limits: dict[str, float] | None = explain.get("signatures")
    return limits


def of_sweep(candidates: Sequence[Candidate], ratios: Ratios) -> list[Record]:
    """Return the signatures that need several candidates, for every data set and device.

    Parameters
    ----------
    ratios : of `edgeward.reporting.interleaved.own_reference`.
    """
    return [
        record
        for members in by_data(candidates).values()
        for device in dict.fromkeys(d for c in members for d in c.profiles)
        for record in [*flops_rank(members, device), *int8_slower(members, device, ratios)]
    ]


def of_candidate(
    candidate: Candidate, device: str, over_sweep: Sequence[Record]
) -> list[dict[str, Any]]:
    """Return all signatures of a candidate on a device: its profile's own, then the sweep's."""
    timing = candidate.timing(device)
    explanation = (timing.profile.get("explanation") if timing else None) or {}
    identity = (candidate.data, candidate.model, candidate.seed, candidate.recipe, device)
    names = ("data", "model", "seed", "recipe", "device")
    return [
        *explanation.get("signatures", []),
        *(r for r in over_sweep if tuple(r[name] for name in names) == identity),
    ]
