"""Devices with an Android debug daemon, through the system's adb client.

Experimental: the client is the real one, but the daemon that it was tried with is not Android's.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from edgeward.profiling.transport.remote import RemoteDevice

if TYPE_CHECKING:
    from edgeward.profiling.transport.config import AdbTransport

# What adb says -> what it means and what to do; the first that is found counts.
COMPLAINTS = {
    "unauthorized": "it does not trust this machine yet. Unlock it and accept the key that it shows.",
    "offline": "adb sees it, but it does not answer. Plug it in again.",
    "permissions": "this user may not use the USB device. Install adb's udev rules.",
    "not found": "adb sees no such device. Plug it in, switch on USB debugging, or change "
    "`transport.serial` in {where}; `adb devices` lists those that are there.",
    "no devices": "adb sees no device. Plug it in and switch on USB debugging.",
}


class AdbDevice(RemoteDevice):
    """A device with an Android debug daemon."""

    program = "adb"
    package = "Android's platform tools"
    transport: AdbTransport

    def _check(self) -> None:
        command = ["adb", "-s", self.transport.serial, "features"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=self.transport.connect_timeout_s
            )
        except subprocess.TimeoutExpired as error:
            raise self._error(
                "adb did not answer within `transport.connect_timeout_s` = "
                f"{self.transport.connect_timeout_s:g} s. Change it in {self.where}."
            ) from error
        said = (done.stderr or done.stdout).strip()
        if done.returncode:
            known = self._diagnose(said) or f"adb cannot use it; check `transport` in {self.where}."
            raise self._error(f"{known} ({said})")
        if "shell_v2" not in done.stdout.split():
            raise self._error(
                "its debug daemon is too old to carry bytes unchanged (feature shell_v2, Android 7)."
            )

    def _client(self) -> list[str]:
        return ["adb", "-s", self.transport.serial, "shell", "-T", "-e", "none"]

    def _diagnose(self, complaint: str) -> str | None:
        for sign, meaning in COMPLAINTS.items():
            if sign in complaint:
                return meaning.format(where=self.where)
        return None
