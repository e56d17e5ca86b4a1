"""Keys of LiteRT: as the engine of a device, and of the file that is written for it."""

from __future__ import annotations

from typing import Literal

from edgeward.runtimes.base import EngineConfig, ExportConfig


class Engine(EngineConfig):
    """LiteRT's interpreter with XNNPACK, its default."""

    name: Literal["litert"]

    @property
    def asked_for(self) -> list[str]:
        """The delegate that the interpreter takes by itself."""
        return ["XNNPACK"]


class Port(ExportConfig):
    """How ``model.tflite`` is written."""

    runtime: Literal["litert"]
