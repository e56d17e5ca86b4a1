"""Devices that are processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.profiling.bundle import agent_file
from edgeward.profiling.transport.device import Device, Ended

if TYPE_CHECKING:
    from edgeward.profiling.config import ProfileConfig


class LocalDevice(Device):
    """The agent as a process of its own on this machine; files are used where they are."""

    def __init__(self, cfg: ProfileConfig, python: list[str], folder: Path) -> None:
        super().__init__(cfg)
        self.command = [*python, str(folder / "agent.pyz")]
        (folder / "agent.pyz").write_bytes(agent_file()[0])

    def _place(self, file: Path) -> str:
        return str(file.resolve())

    def _run(self, request: str) -> Ended:
        process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(request, timeout=self.cfg.deadline_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return Ended(process.returncode, out, err, timed_out=True)
        return Ended(process.returncode, out, err)


@contextmanager
def open_host(cfg: ProfileConfig) -> Iterator[Device]:
    """Open this machine, with the interpreter that runs now."""
    with tempfile.TemporaryDirectory(prefix="edgeward-") as folder:
        yield LocalDevice(cfg, [sys.executable], Path(folder))
