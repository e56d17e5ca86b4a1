"""Failure signatures that only show against other candidates, and those that the profiles hold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import JsonValue

from edgeward.core.text import fixed
from edgeward.records.base import Interval, Record
from edgeward.records.explanation import SignatureRow
from edgeward.reporting.load import Candidate
from edgeward.reporting.numbers import bracket
from edgeward.reporting.ranks import rank
from edgeward.reporting.sweep import Sweep, devices_of

TITLES = {
    "memory_bound": "Bound by memory, not by MACs",
    "fusion_broken": "Layout changes break fusion",
    "float_islands": "Float islands in an INT8 graph",
    "recurrence_per_token": "Recurrence runs token by token",
    "scalar_kernels": "Kernels without products far from the memory's speed",
    "flops_rank": "MACs mislead about its latency",
    "int8_slower": "INT8 is slower than fp32",
}


class SweepSignature(Record):
    """A way of being slow that a candidate shows, or not, against others; fields as in a profile."""

    data: str
    model: str
    seed: int
    recipe: str
    device: str
    name: str
    present: bool | None
    evidence: dict[str, JsonValue]
    text: str
    advice: str


def _signature(
    candidate: Candidate, device: str, name: str, present: bool | None,
    evidence: dict[str, JsonValue], text: str, advice: str,
) -> SweepSignature:  # fmt: skip
    return SweepSignature(
        data=candidate.data, model=candidate.model, seed=candidate.seed, recipe=candidate.recipe,
        device=device, name=name, present=present, evidence=evidence, text=text,
        advice=advice if present else "",
    )  # fmt: skip


def flops_rank(members: Sequence[Candidate], device: str) -> list[SweepSignature]:
    """Compare the rank by MACs with that by latency, over the fp32 candidates of a data set.

    A candidate shows the signature if it is slower than its MACs promise by at least the share
    ``rank_gap`` of the candidates compared; that of its device's configuration.
    """
    shown: list[tuple[Candidate, float, int, float]] = []
    for candidate in members:
        timing = candidate.timing(device)
        if candidate.built.precision == "fp32" and timing is not None and timing.valid:
            explain = timing.profile.config.get("explain") or {}
            if timing.p50.estimate is not None and explain.get("signatures"):
                gap = explain["signatures"]["rank_gap"]
                shown.append((candidate, gap, timing.profile.model.macs, timing.p50.estimate))
    n = len(shown)
    if n < 3:
        return []
    by_macs = rank(np.array([macs for *_, macs, _ in shown])).tolist()
    by_latency = rank(np.array([ms for *_, ms in shown])).tolist()
    return [
        _signature(
            candidate, device, "flops_rank", second - first >= max(1.0, gap * n),
            {"macs_rank": first, "latency_rank": second, "candidates": n, "threshold": gap},
            f"Of {n} fp32 candidates it has rank {first:g} by MACs and rank {second:g} by latency.",
            "Choose by measured latency. What else takes its time is in its operators and in its other signatures.",
        )
        for (candidate, gap, *_), first, second in zip(shown, by_macs, by_latency, strict=True)
    ]  # fmt: skip


def int8_slower(sweep: Sweep, members: Sequence[Candidate], device: str) -> list[SweepSignature]:
    """Compare INT8 candidates with their reference, pair by pair where that was measured."""
    found = []
    for candidate in members:
        reference = sweep.reference(candidate)
        if candidate.is_reference or candidate.built.precision != "int8" or reference is None:
            continue
        if candidate.timing(device) is None or reference.timing(device) is None:
            continue
        speed = sweep.speed(candidate, device)
        factor = speed.factor if speed else Interval()
        present: bool | None = factor.high is not None and factor.high < 1
        text = f"{fixed(factor.estimate, 2)} {bracket(factor, 2)} times the speed of its reference."
        if speed is not None and not speed.valid:
            what = "comparison in turns" if speed.in_turns else "timing of one of the two"
            present, text = None, f"The {what} is INVALID."
        elif factor.high is None:
            present, text = None, "Its speed cannot be compared with that of its reference."
        found.append(
            _signature(
                candidate, device, "int8_slower", present,
                {"speedup": factor.estimate, "low": factor.low, "high": factor.high,
                 "interleaved": speed is not None and speed.in_turns},
                text,
                "Look at its float islands and its kernels without products; quantize convolutions only, use "
                "another engine, or stay with fp32.",
            )
        )  # fmt: skip
    return found


def of_sweep(sweep: Sweep) -> list[SweepSignature]:
    """Return the signatures that need several candidates, for every data set and device."""
    return [
        signature
        for members in sweep.groups.values()
        for device in devices_of(members)
        for signature in [*flops_rank(members, device), *int8_slower(sweep, members, device)]
    ]


def of_candidate(
    candidate: Candidate, device: str, over_sweep: Sequence[SweepSignature]
) -> list[SignatureRow | SweepSignature]:
    """Return all signatures of a candidate on a device: its profile's own, then the sweep's."""
    explanation = candidate.profiles[device].explanation
    identity = (*candidate.family, candidate.recipe, device)
    return [
        *(explanation.signatures if explanation else []),
        *(s for s in over_sweep if (s.data, s.model, s.seed, s.recipe, s.device) == identity),
    ]
