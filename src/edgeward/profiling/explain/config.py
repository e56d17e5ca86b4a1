"""Key ``explain`` of a device: how its ceilings are measured, and when a signature is reported."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgeward.core.config import Closed

Share = Annotated[float, Field(ge=0, le=1)]


class CeilingsConfig(Closed):
    """How the best that a device can do is measured."""

    copy_kb: list[Annotated[int, Field(ge=16, le=4_194_304)]] = Field(
        min_length=2,
        description="Working sets (source and target together, 1000 bytes) whose copying is timed.",
    )
    duration_s: float = Field(gt=0, le=10, description="Time spent on each of them.")


class SignaturesConfig(Closed):
    """From where on a finding is reported."""

    memory_bound_share: Share = Field(
        description="Share of the time in kernels that the memory bounds."
    )
    layout_share: Share = Field(description="Share of the time spent on changing the layout.")
    layout_per_product: float = Field(
        ge=0, description="Layout changes per convolution or matrix product."
    )
    float_share: Share = Field(
        description="Share of an INT8 model's time in float kernels and conversions."
    )
    recurrence_share: Share = Field(
        description="Share of the time in Scan, Loop and If, which run a kernel per token."
    )
    scalar_share: Share = Field(
        description="Share of the time in kernels without products far from what memory allows."
    )
    scalar_factor: float = Field(
        gt=1, description="Far means so many times the time that moving their bytes takes."
    )
    rank_gap: Share = Field(
        description="Ranks between MACs and latency, as a share of the models compared."
    )


class ExplainConfig(Closed):
    """What the explanation of a latency needs to know."""

    ceilings: CeilingsConfig
    signatures: SignaturesConfig
