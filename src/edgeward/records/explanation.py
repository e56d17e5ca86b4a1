"""The section ``explanation`` of a profile, as closed models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from edgeward.records.base import Record

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Part(Record):
    """A section of an explanation, without unknown keys and without coercion."""

    model_config = ConfigDict(strict=True)


class CopyPoint(Part):
    """Bandwidth of copying a working set (source and target); read and written bytes count."""

    bytes: int = Field(ge=1)
    gb_per_s: float = Field(gt=0, description="10^9 bytes per second.")


class CeilingsUsed(Part):
    """The best that the device did, with the headline's threads."""

    threads: int = Field(ge=1)
    copy_points: list[CopyPoint] = Field(min_length=1, alias="copy")
    fp32_gmac_per_s: float = Field(gt=0, description="10^9 multiply-accumulates per second.")
    int8_gmac_per_s: float = Field(gt=0, description="10^9 multiply-accumulates per second.")


class OperatorSum(Part):
    """All kernels of one operator."""

    operator: str
    inner: bool = Field(description="Inside a Scan, Loop or If, whose time includes theirs.")
    kernels: int = Field(ge=1)
    calls: int = Field(ge=1, description="Per inference.")
    ms: Amount
    share: Amount = Field(description="Of the time in kernels.")
    macs: Count
    bytes_moved: Count
    intensity: Amount | None = Field(description="MACs per byte moved.")
    roofline_ms: Amount | None


class KernelRow(Part):
    """One kernel of one inference."""

    name: str
    operator: str
    inside: str | None = Field(description="Name of the Scan, Loop or If that runs it.")
    calls: int = Field(ge=1)
    us: Amount = Field(description="Time of all its calls, microseconds.")
    macs: Count | None = Field(description="null: no closed count.")
    bytes_moved: Count
    roofline_us: Amount | None
    bound_by: Literal["compute", "memory"] | None


class SignatureRow(Part):
    """One way of being slow that was looked for."""

    name: str
    present: bool | None = Field(description="null: it could not be looked for; the text says why.")
    evidence: dict[str, float | int | list[str]]
    text: str
    advice: str = Field(description="Empty unless present.")


class Explanation(Part):
    """Where the time goes, against what the device can do."""

    threads: int = Field(ge=1)
    kernels_ms: Amount = Field(
        description="Sum over kernels by the engine's own profiler, which costs some microseconds each."
    )
    outside_delegates: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="Share of that time (where it is 0, as the engine tells no times, of the MACs) outside the part of the engine that "
        "computes fast (XNNPACK); null: it has no such part.",
    )
    measured_ms: Amount = Field(description="Median of the headline setting.")
    macs: Count = Field(
        description="Executed per inference; above the model's own where an engine pads channels."
    )
    macs_unknown: list[str] = Field(description="Executed operators without a closed count.")
    bytes_moved: Count = Field(
        description="Read and written by the executed kernels per inference, every tensor once a call."
    )
    weight_bytes: Count | None = Field(description="Those that are weights; null if not known.")
    intensity: Amount | None = Field(description="MACs per byte moved.")
    int8_mac_share: Annotated[float, Field(ge=0, le=1)] | None
    roofline_ms: Amount | None = Field(
        description="Sum over kernels of max(MACs / rate, bytes / bandwidth); null without ceilings."
    )
    roofline_share: Amount | None = Field(description="roofline_ms / measured_ms")
    layout_changes: Count = Field(description="Reshape, Transpose, Reorder: calls per inference.")
    fused_share: Annotated[float, Field(ge=0, le=1)] | None = Field(
        description="Share of the exported nodes that the engine does not execute as such."
    )
    ceilings: CeilingsUsed | None
    operators: list[OperatorSum]
    kernels: list[KernelRow]
    signatures: list[SignatureRow]
