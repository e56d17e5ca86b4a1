"""What a profile and its sections are made of, as closed models."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from edgeward.records import base
from edgeward.records.base import Record

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1)]


class Part(Record):
    """A section of a profile, without unknown keys and without coercion."""

    model_config = ConfigDict(strict=True)


OWN = ("estimate", "low", "high", "n", "method")  # what the published format has of an interval


class Interval(base.Interval):
    """An estimate with the ends of its interval; an end is null where the sample is too small."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra=lambda schema: schema.update(
            properties={name: schema["properties"][name] for name in OWN}
        ),
    )

    estimate: Amount
    low: Amount | None
    high: Amount | None
    n: Count = Field(description="Size of the sample.")
    method: Text = Field(description="How the interval was found, and its confidence level.")

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if more := self.model_fields_set.difference(OWN):
            raise ValueError(f"{', '.join(sorted(more))}: not in this format")
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if not low <= self.estimate <= high:
            raise ValueError(
                f"low <= estimate <= high does not hold: {low}, {self.estimate}, {high}"
            )
        return self


class Spread(Part):
    """A few values, too few for an interval."""

    median: float
    min: float
    max: float
    n: Count


class Decided(Part):
    """Agreement on the images whose decision is clear."""

    n: Count
    agreement: Share | None


class Parity(Part):
    """Logits on the device against the reference engine's, on the same images."""

    n: Count = Field(description="Images.")
    spread: Amount = Field(description="Standard deviation of the reference's logits.")
    sensitivity: Amount | None = Field(
        default=None,
        description="Mean change of the reference's logits when pixels change by less than their rounding; INT8.",
    )
    max_abs: Amount | None
    mean_abs: Amount | None
    agreement: Share | None = Field(description="Share of equal decisions.")
    limit: Amount | None = Field(description="Of max_abs; for INT8 of mean_abs.")
    decided: Decided | None
    passed: bool
    reasons: list[Text]


class Judged(Part):
    """A measurement that may be believed (VALID) or not (INVALID, with the reasons)."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"verdict": {"const": "VALID"}}},
            "then": {"properties": {"reasons": {"maxItems": 0}}},
            "else": {"properties": {"reasons": {"minItems": 1}}},
        }
    )

    verdict: Literal["VALID", "INVALID"]
    reasons: list[Text] = Field(description="Why it is INVALID, each with what to do about it.")

    @model_validator(mode="after")
    def _reasoned(self) -> Judged:
        if (self.verdict == "VALID") != (not self.reasons):
            raise ValueError("VALID takes no reasons, INVALID at least one")
        return self


class Counter(Part):
    """The power counter and the domains of it that were added."""

    kind: Text
    domains: list[Text]
