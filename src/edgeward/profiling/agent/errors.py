"""What can go wrong on a device."""

from __future__ import annotations


class AgentError(Exception):
    """What went wrong on the device, and in which respect."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
