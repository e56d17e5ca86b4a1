"""Keys of OpenVINO as the engine of a device."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeward.runtimes.base import EngineConfig


class Engine(EngineConfig):
    """OpenVINO on the ONNX file that ships."""

    name: Literal["openvino"]
    device: str = Field(
        "CPU",
        pattern=r"^[A-Z]+(\.\d+)?$",
        description="OpenVINO's device: CPU, GPU, NPU. One that is missing is an error.",
    )
    precision: Literal["f32", "bf16", "f16"] = Field(
        "f32",
        description="Arithmetic of what is not quantised: f32, or bf16 / f16 where the processor has it. OpenVINO's own choice "
        "would be bf16 on a server; then fp32 figures would be no fp32 figures.",
    )

    @property
    def asked_for(self) -> list[str]:
        """The device."""
        return [self.device]
