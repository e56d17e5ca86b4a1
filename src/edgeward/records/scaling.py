"""``build.json``: an untrained network at one input size."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from edgeward.records.base import File


class Build(File):
    """Whether the network takes the size, and what was exported."""

    FORMAT: ClassVar[str] = "edgeward-scaling/1"
    STAGE: ClassVar[str] = "scaling"

    model: str
    family: str
    size: int = Field(description="Side of the image or cube, pixels.")
    spatial_dims: int = 2
    status: Literal["exported", "refused"]
    reason: str | None = Field(description="Why the network cannot take the size.")
    parameters: int | None = Field(default=None, description="As deployed.")
    sha256: str | None = Field(default=None, description="Of ``model.onnx``.")
    logit_error: float | None = Field(default=None, description="Largest, of the parity check.")
    logit_spread: float | None = Field(
        default=None, description="Standard deviation of the logits."
    )

    @classmethod
    def upgrade(cls, content: dict[str, Any]) -> dict[str, Any]:
        """Older files call the family stream."""
        return {("family" if key == "stream" else key): value for key, value in content.items()}


class Unmeasured(File):
    """Instead of a profile, where the network cannot take the size."""

    FORMAT: ClassVar[str] = "edgeward-unmeasured/1"
    STAGE: ClassVar[str] = "scaling_profile"

    status: Literal["refused"]
    reason: str | None
