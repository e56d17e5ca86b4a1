"""Devices that are processes on this machine, as they are or under an emulator."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.core.errors import UserError
from edgeward.profiling.bundle import agent_file
from edgeward.profiling.transport.config import EmulatedTransport
from edgeward.profiling.transport.device import Device, Ended

if TYPE_CHECKING:
    from edgeward.profiling.config import DeviceConfig


SET_UP = "`tools/arm64_device.sh` sets up what config/profile/arm64_emulated.yaml names."


class LocalDevice(Device):
    """The agent as a process of its own on this machine; files are used where they are."""

    def __init__(
        self, cfg: DeviceConfig, folder: Path, python: list[str], environment: dict[str, str]
    ) -> None:
        super().__init__(cfg)
        self.command = [*python, str(folder / "agent.pyz")]
        self.environment = {**os.environ, **environment}
        (folder / "agent.pyz").write_bytes(agent_file(cfg.engine.name)[0])

    def _place(self, file: Path) -> str:
        return str(file.resolve())

    def _run(self, request: str, deadline_s: float) -> Ended:
        process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(request, timeout=deadline_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return Ended(process.returncode, out, err, timed_out=True)
        return Ended(process.returncode, out, err)


@contextmanager
def open_host(cfg: DeviceConfig) -> Iterator[Device]:
    """Open this machine, with the interpreter that runs now."""
    with tempfile.TemporaryDirectory(prefix="edgeward-") as folder:
        yield LocalDevice(cfg, Path(folder), [sys.executable], {})


class EmulatedDevice(LocalDevice):
    """The agent under QEMU's user-mode emulation: every answer but the times is the real one."""

    emulated = True


@contextmanager
def open_emulated(cfg: DeviceConfig, transport: EmulatedTransport) -> Iterator[Device]:
    """Open another architecture on this machine.

    Raises
    ------
    UserError
        If the emulator or a file of the architecture is missing, or its interpreter does not run.
    """
    where = f"config/profile/{cfg.name}.yaml"
    who = f"device '{cfg.name}'"
    if not shutil.which(transport.emulator):
        raise UserError(
            f"{who}: `transport.emulator` = {transport.emulator} is not on this machine. {SET_UP} Or "
            f"change it in {where}."
        )
    for key in ("root", "python", "packages"):
        path = Path(getattr(transport, key))
        if not path.exists():
            raise UserError(
                f"{who}: `transport.{key}` = {path} does not exist. {SET_UP} Or change it in {where}."
            )
    python = [
        transport.emulator,
        *("-cpu", transport.cpu),
        *("-L", str(Path(transport.root).resolve())),
        str(Path(transport.python).resolve()),
    ]
    done = subprocess.run(
        [*python, "-c", "import platform; print(platform.machine())"],
        capture_output=True,
        text=True,
    )
    if done.returncode or done.stdout.strip() != transport.machine:
        said = (done.stderr or done.stdout).strip()[-500:]
        raise UserError(
            f"{who}: `transport.python` = {transport.python} should run on {transport.machine}, but "
            f"said: {said or 'nothing'} (status {done.returncode}). {SET_UP} Or change it in {where}."
        )
    with tempfile.TemporaryDirectory(prefix="edgeward-") as folder:
        packages = str(Path(transport.packages).resolve())
        environment = {"PYTHONPATH": packages, "PYTHONNOUSERSITE": "1"}
        yield EmulatedDevice(cfg, Path(folder), python, environment)
