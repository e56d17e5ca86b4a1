"""Keys of onnxruntime: as the engine of a device, and of the ONNX file that is written for it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgeward.core.config import Closed
from edgeward.runtimes.base import EngineConfig, ExportConfig


class Engine(EngineConfig):
    """onnxruntime, with any of its execution providers."""

    name: Literal["onnxruntime"]
    providers: list[Annotated[str, Field(min_length=1)]] = Field(
        min_length=1, description="Execution providers, in order of preference; all must exist."
    )
    provider_options: dict[str, dict[str, str]] = Field(
        description="Options of a provider, as onnxruntime names them."
    )
    spinning: bool = Field(description="Whether idle threads of the engine's pool spin.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        stray = sorted(set(self.provider_options) - set(self.providers))
        if stray:
            raise ValueError(f"provider_options names {stray}, not in providers {self.providers}")
        return self

    @property
    def asked_for(self) -> list[str]:
        """The execution providers."""
        return list(self.providers)


class RecurrenceConfig(Closed):
    """How the recurrence of a state-space model is written."""

    gated: Literal["linear_attention", "opset27", "matmul", "scan"] = Field(
        description="Form of SSD (Mamba-2) recurrences."
    )


class Export(ExportConfig):
    """How ``model.onnx`` is written."""

    runtime: Literal["onnxruntime"] = "onnxruntime"
    opset: int = Field(ge=20, le=24, description="ONNX operator set; from 20 on GELU is one node.")
    recurrence: RecurrenceConfig
