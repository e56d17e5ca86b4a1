"""The section ``sustained`` of a profile: minutes without a pause."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edgeward.records.parts import (
    Amount,
    Count,
    Counter,
    Interval,
    Judged,
    Parity,
    Part,
    Share,
    Text,
)


class Window(Part):
    """A few seconds of a sustained run; null is what the machine does not show."""

    start_s: Amount = Field(description="Since the start of the run.")
    duration_s: Amount
    n: int = Field(ge=1, description="Inferences.")
    p50_ms: Interval = Field(description="Of samples that are evenly spread over the window.")
    p90_ms: Interval
    energy_mj: Amount | None = Field(description="Energy of the window per inference, mJ.")
    other_cores: Amount | None = Field(description="What all other processes used, in cores.")
    clock_mhz: Amount | None = Field(description="At the end of the window.")
    hottest_c: float | None = Field(description="Hottest thermal zone at the end, deg C.")
    cooling: int | None = Field(description="States of what slows the CPU, at the end.")
    throttled: Count | None = Field(description="Times that a core was throttled.")


class Sustained(Judged):
    """Does the device hold its latency when it works for minutes?"""

    threads: int = Field(ge=1)
    batch: int = Field(ge=1, description="Images per inference.")
    duration_s: Amount
    edge_s: Amount = Field(description="Length of the first and of the last stretch compared.")
    max_slowdown: Amount = Field(description="What still counts as holding, as a share.")
    ratio: Interval = Field(
        description="Latency of the last stretch / of the first, from the medians of their windows."
    )
    energy_ratio: Interval | None = Field(
        description="Energy per inference of the last stretch / of the first."
    )
    answer: Literal["holds", "slows", "inconclusive"] = Field(
        description="holds: the interval of the ratio lies below 1 + max_slowdown; slows: above it."
    )
    held: Share = Field(
        description="Windows whose median is at most 1 + max_slowdown times that of the first stretch."
    )
    parity: Parity
    counter: Counter | None
    no_energy: Text | None = Field(description="Why there is no energy figure.")
    windows: list[Window] = Field(min_length=1)

    @model_validator(mode="after")
    def _follows(self) -> Sustained:
        if self.answer != answer(self.ratio, self.max_slowdown):
            raise ValueError("answer does not follow from ratio and max_slowdown")
        return self


def answer(ratio: Interval, max_slowdown: float) -> Literal["holds", "slows", "inconclusive"]:
    """Say what the interval of a ratio of latencies shows; an open end shows nothing."""
    if ratio.high is not None and ratio.high <= 1 + max_slowdown:
        return "holds"
    if ratio.low is not None and ratio.low > 1 + max_slowdown:
        return "slows"
    return "inconclusive"
