"""``parity.json``: the file that ships against the program it was made from, on validation cases."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, JsonValue

from edgeward.records.base import File, Record


class Agreement(Record):
    """Two sets of logits on the same images."""

    max_abs: float
    mean_abs: float
    p99_abs: float
    agreement: float = Field(description="Share of equal decisions.")
    flipped: int = Field(description="Number of unequal ones.")
    flipped_margin: float = Field(description="Largest margin of those.")


class Decided(Record):
    """Agreement on the images whose decision is clear."""

    n: int
    agreement: float | None


class Taken(Record):
    """Whether a finished file is taken as it was meant, by validation images, at most so many of each class."""

    n: int
    correct: float = Field(description="Share of right decisions.")
    constant: float = Field(description="Share that one and the same answer gets right.")
    doubts: list[str]


class Parity(File):
    """Logits of the exported file and of the program; unfused and shaken ones where it is INT8."""

    FORMAT: ClassVar[str] = "edgeward-parity/1"
    STAGE: ClassVar[str] = "export"

    passed: bool
    failures: list[str]
    precision: str
    n: int = Field(description="Images.")
    engine: dict[str, str] = Field(description="Name -> version.")
    spread: float = Field(description="Standard deviation of the program's logits.")
    median_margin: float
    onnx_vs_torch: Agreement | None = Field(
        description="None if there are logits that are not finite."
    )
    batches: dict[str, float] = Field(description="Batch size -> largest difference.")
    tolerance: dict[str, JsonValue]
    sensitivity: Agreement | None = Field(default=None, description="To the rounding of pixels.")
    unfused_vs_torch: Agreement | None = None
    fused_vs_unfused: Agreement | None = None
    limit: dict[str, float] = Field(default_factory=dict)
    decided: Decided | None = None
    taken: Taken | None = Field(default=None, description="Of a finished file.")

    @classmethod
    def upgrade(cls, content: dict[str, Any]) -> dict[str, Any]:
        """Older files name no schema, and the engine's version stands under the engine's name."""
        if "schema" in content:
            return content
        older = {**content, "onnx_vs_torch": content.get("onnx_vs_torch") or None}
        return cls.unversioned(older, "engine")
