"""How a device is reached: ``with open_device(cfg) as device: answer = device.ask(request)``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from edgeward.profiling.transport.adb import AdbDevice
from edgeward.profiling.transport.browser import open_browser, open_page
from edgeward.profiling.transport.config import (
    AdbTransport,
    BrowserTransport,
    EmulatedTransport,
    HostTransport,
    PageTransport,
    SshTransport,
)
from edgeward.profiling.transport.device import Device, Refused
from edgeward.profiling.transport.local import open_emulated, open_host
from edgeward.profiling.transport.remote import keep
from edgeward.profiling.transport.ssh import SshDevice

if TYPE_CHECKING:
    from edgeward.profiling.config import DeviceConfig

__all__ = ["Device", "Refused", "open_device"]


@contextmanager
def open_device(cfg: DeviceConfig) -> Iterator[Device]:
    """Open the device of a configuration; what was put on it is removed at the end.

    Raises
    ------
    UserError
        If the device cannot be reached or used; says why, and which key to change.
    """
    with _open(cfg) as device:
        yield device


def _open(cfg: DeviceConfig) -> AbstractContextManager[Device]:
    match cfg.transport:
        case SshTransport():
            return keep(SshDevice(cfg, cfg.transport))
        case AdbTransport():
            return keep(AdbDevice(cfg, cfg.transport))
        case EmulatedTransport():
            return open_emulated(cfg, cfg.transport)
        case BrowserTransport():
            return open_browser(cfg, cfg.transport)
        case PageTransport():
            return open_page(cfg, cfg.transport)
        case HostTransport():
            return open_host(cfg)
