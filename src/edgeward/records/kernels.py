"""``devices/{device}.kernels.json``: what operators take on a device, in float and in integers; it grows with the networks asked about."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, JsonValue

from edgeward.records.base import File
from edgeward.records.ceilings import EngineVersion
from edgeward.records.profile import Host


class KernelCosts(File):
    """Times of small graphs for the first thread setting."""

    FORMAT: ClassVar[str] = "edgeward-kernels/1"
    STAGE: ClassVar[str] = "compress"

    identity: dict[str, JsonValue] = Field(
        description="The part of the device's configuration that they depend on."
    )
    threads: int
    engine: EngineVersion
    host: Host
    us: dict[str, float | None] = Field(
        description="Signature of an operator and its form -> time of its graph, microseconds: the best of several blocks; null: "
        "the engine refuses it."
    )
    spread: dict[str, float | None] = Field(
        description="Median of the blocks over the best, less 1: how noisy the machine was."
    )
