"""Keys of the toy as the engine of a device."""

from __future__ import annotations

from typing import Literal

from edgeward.runtimes.base import EngineConfig


class Engine(EngineConfig):
    """The reference evaluator."""

    name: Literal["toy"]

    @property
    def asked_for(self) -> list[str]:
        """There is one processor."""
        return ["python"]
