"""Key ``explain`` of a device: how its ceilings are measured, and when a signature is reported."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgeward.core.config import Closed

Share = Annotated[float, Field(ge=0, le=1)]


class CeilingsConfig(Closed):
    """The best that the device does, measured once for all models (stage `ceilings`)."""

    copy_kb: list[Annotated[int, Field(ge=16, le=4_194_304)]] = Field(
        [256, 2000, 16000, 128000],
        min_length=2,
        description="Working sets (source and target together) that are copied, in units of 1000 bytes: from well inside the caches to "
        "beyond them, where the memory is large enough.",
    )
    duration_s: float = Field(
        0.25,
        gt=0,
        le=10,
        description="Seconds spent on each of them, and on each of six small graphs of convolutions and products.",
    )


class SignaturesConfig(Closed):
    """From where on a signature is reported as present. They say where to look, and judge nothing."""

    memory_bound_share: Share = Field(
        0.5,
        description="Share of the time in kernels that move data for longer than they multiply.",
    )
    layout_share: Share = Field(
        0.1, description="Reshape, Transpose, Reorder: share of the time ..."
    )
    layout_per_product: float = Field(
        1.0, ge=0, description="... or number for each convolution or matrix product."
    )
    float_share: Share = Field(
        0.2, description="Share of an INT8 model's time in float kernels and in conversions."
    )
    recurrence_share: Share = Field(
        0.2,
        description="Share of the time in Scan, Loop and If, which run a kernel per token.",
    )
    scalar_share: Share = Field(
        0.1, description="Share of the time in kernels without products that take longer ..."
    )
    scalar_factor: float = Field(
        5.0, gt=1, description="... than so many times what moving their data takes."
    )
    rank_gap: Share = Field(
        0.25,
        description="How far MACs and latency may rank a model apart, as a share of the models that are compared.",
    )


class ExplainConfig(Closed):
    """Why a model takes its time: docs/explain-a-latency.md."""

    ceilings: CeilingsConfig = CeilingsConfig()
    signatures: SignaturesConfig = SignaturesConfig()
