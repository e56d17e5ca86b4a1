"""How a device is reached: ``with open_device(cfg) as device: answer = device.ask(request)``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgeward.profiling.transport.device import Device
from edgeward.profiling.transport.local import open_host

if TYPE_CHECKING:
    from edgeward.profiling.config import ProfileConfig

__all__ = ["Device", "open_device"]


@contextmanager
def open_device(cfg: ProfileConfig) -> Iterator[Device]:
    """Open the device of a configuration; what was put on it is removed at the end.

    Raises
    ------
    UserError
        If the device cannot be reached or used; says why, and which key to change.
    """
    with {"host": open_host}[cfg.transport.kind](cfg) as device:
        yield device
