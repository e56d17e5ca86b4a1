"""``interleaved/{device}.json``: candidates timed in turns in one process."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from edgeward.records.base import File, Interval, Record
from edgeward.records.profile import Agent, Engine, Host


class Member(Record):
    """A candidate of a group."""

    data: str
    model: str
    seed: int
    recipe: str


class TimedMember(Member):
    """A candidate that was timed; `ratio` is its latency over that of the first of its group."""

    latency_ms: Interval
    ratio: Interval
    verdict: Literal["VALID", "INVALID"]
    reasons: list[str]


class RefusedMember(Member):
    """A candidate that the engine cannot load, and why."""

    reason: str


class InTurns(Record):
    """Candidates that took turns; without the first, because the engine refuses it, there are none."""

    threads: int
    batch: int
    rounds: int
    block: int = Field(description="Inferences of one candidate in a row.")
    duration_s: float
    candidates: list[TimedMember]
    refused: list[RefusedMember]
    conditions: dict[str, JsonValue]


class Interleave(File):
    """All groups on one device."""

    FORMAT: ClassVar[str] = "edgeward-interleave/1"
    STAGE: ClassVar[str] = "interleave"

    device: str
    emulated: bool
    host: Host
    engine: Engine
    agent: Agent
    confidence: float
    groups: list[InTurns]
