"""Keys of onnxruntime-web as the engine of a device."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeward.runtimes.base import EngineConfig


class Engine(EngineConfig):
    """onnxruntime-web (WebAssembly) on the ONNX file that ships, in a page."""

    name: Literal["onnxruntime_web"]
    package: str = Field(
        ".edgeward/devices/browser/node_modules/onnxruntime-web",
        min_length=1,
        description="Folder of the npm package, which `tools/onnxruntime_web.sh` fetches.",
    )

    @property
    def asked_for(self) -> list[str]:
        """The execution provider."""
        return ["wasm"]
