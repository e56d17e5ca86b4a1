"""Keys of OpenVINO as the engine of a device."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeward.runtimes.base import EngineConfig


class Engine(EngineConfig):
    """OpenVINO on the ONNX file that ships."""

    name: Literal["openvino"]
    device: str = Field(pattern=r"^[A-Z]+(\.\d+)?$", description="OpenVINO's device, e.g. CPU.")
    precision: Literal["f32", "bf16", "f16"] = Field(
        description="Arithmetic of the parts that are not quantised."
    )

    @property
    def asked_for(self) -> list[str]:
        """The device."""
        return [self.device]
