"""Keys of ExecuTorch: as the engine of a device, and of the file that is written for it."""

from __future__ import annotations

from typing import Literal

from edgeward.runtimes.base import EngineConfig, ExportConfig


class Engine(EngineConfig):
    """ExecuTorch; which of its backends computes what is fixed in the file."""

    name: Literal["executorch"]

    @property
    def asked_for(self) -> list[str]:
        """The backend that files are written for."""
        return ["XnnpackBackend"]


class Port(ExportConfig):
    """How ``model.pte`` is written: with XNNPACK, and what that does not take on portable operators."""

    runtime: Literal["executorch"]
