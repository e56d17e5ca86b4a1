"""Keys of onnxruntime: as the engine of a device, and of the ONNX file that is written for it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgeward.core.config import Closed
from edgeward.runtimes.base import EngineConfig, ExportConfig


class Engine(EngineConfig):
    """onnxruntime, with any of its execution providers."""

    name: Literal["onnxruntime"] = "onnxruntime"
    providers: list[Annotated[str, Field(min_length=1)]] = Field(
        ["CPUExecutionProvider"],
        min_length=1,
        description="Execution providers, in order of preference. One that is missing is an error, not a reason to fall back on "
        "another.",
    )
    provider_options: dict[str, dict[str, str]] = Field(
        {},
        description="Options of a provider, as onnxruntime names them, e.g. `{QNNExecutionProvider: {backend_path: libQnnHtp.so}}`.",
    )
    spinning: bool = Field(
        True,
        description="true: waiting threads spin, as the engine does by default (faster, but they burn their core); false: they "
        "sleep, as on a device that has other work to do.",
    )

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
    """How the recurrences of state-space models are written; parity is checked whatever the form."""

    gated: Literal["linear_attention", "opset27", "matmul", "scan"] = Field(
        "linear_attention",
        description="SSD (Mamba-2). linear_attention: the fused operator that onnxruntime ships in its own domain com.microsoft, "
        "by far the fastest there. opset27: the same operator as standardised in ONNX 27, for engines that load it. matmul: "
        "matrix products over chunks, for engines that know neither. scan: one ONNX Scan, small and slow.",
    )


class Export(ExportConfig):
    """How ``model.onnx`` is written."""

    runtime: Literal["onnxruntime"] = "onnxruntime"
    opset: int = Field(
        20,
        ge=20,
        le=24,
        description="ONNX operator set. 20 is the first with GELU as one node; raise it only if the engine on every device knows "
        "the newer one.",
    )
    recurrence: RecurrenceConfig = RecurrenceConfig()
