"""``devices/{device}.json``: the best that a device does, measured once for all models."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from edgeward.records.base import File, Record
from edgeward.records.explanation import CeilingsUsed, CopyPoint
from edgeward.records.profile import Host


class EngineVersion(Record):
    """What executed the probes."""

    name: str
    version: str


class Rate(Record):
    """How fast the device multiplies one small graph."""

    graph: str
    precision: Literal["fp32", "int8"]
    gmac_per_s: float = Field(gt=0, description="10^9 multiply-accumulates per second.")


class Ceilings(File):
    """Copy bandwidth and matrix rates for the first thread setting."""

    FORMAT: ClassVar[str] = "edgeward-ceilings/1"
    STAGE: ClassVar[str] = "ceilings"

    identity: dict[str, JsonValue] = Field(
        description="The part of the device's configuration that they depend on."
    )
    threads: int
    engine: EngineVersion
    host: Host
    copy_points: list[CopyPoint] = Field(
        min_length=1,
        alias="copy",
        description="By working set: source and target, read and written.",
    )
    fp32_gmac_per_s: float = Field(gt=0, description="The best of `rates`.")
    int8_gmac_per_s: float = Field(gt=0, description="The best of `rates`.")
    rates: list[Rate]

    @property
    def used(self) -> CeilingsUsed:
        """What an explanation rests on."""
        return CeilingsUsed(
            threads=self.threads,
            copy_points=self.copy_points,
            fp32_gmac_per_s=self.fp32_gmac_per_s,
            int8_gmac_per_s=self.int8_gmac_per_s,
        )
