"""A session with a device at the other end of a byte stream, kept there by `remote_session`."""

from __future__ import annotations

import io
import logging
import shlex
import shutil
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from edgeward.core.errors import UserError
from edgeward.core.io import sha256
from edgeward.profiling.bundle import agent_file
from edgeward.profiling.transport import remote_session
from edgeward.profiling.transport.channel import Channel, Lost
from edgeward.profiling.transport.device import Device, Ended

if TYPE_CHECKING:
    from edgeward.profiling.config import DeviceConfig
    from edgeward.profiling.transport.config import RemoteTransport

log = logging.getLogger(__name__)

TOO_OLD = "edgeward needs Python 3.8"
# Every Python since 2.6 can read this much, so that an old one can say that it is too old.
BOOTSTRAP = (
    "import sys; v = sys.version_info[:2]; "
    f"v < (3, 8) and sys.exit('{TOO_OLD}, this is %d.%d' % v); "
    "i = sys.stdin.buffer; exec(compile(i.read(int(i.readline())), 'remote_session', 'exec'))"
)
LEASE_S = 900  # the device ends a session from which it has heard nothing for so long
GRACE_S = 60  # beyond the deadline that the device itself enforces
SLOWEST = 1e5  # bytes per second; a transfer slower than this is given up


class RemoteDevice(Device):
    """The agent on a device that a client program of this machine reaches."""

    program: str  # the client
    package: str  # what provides it, for the message when it is absent

    def __init__(self, cfg: DeviceConfig, transport: RemoteTransport) -> None:
        super().__init__(cfg)
        self.transport = transport
        self._files: dict[tuple[str, int, int], str] = {}
        if not shutil.which(self.program):
            raise self._error(
                f"the program `{self.program}` is not on this machine; install {self.package}."
            )
        self._check()
        start = f"exec {shlex.quote(transport.python)} -c {shlex.quote(BOOTSTRAP)}"
        self.channel = Channel([*self._client(), start])
        self._greeted = False

    @abstractmethod
    def _check(self) -> None:
        """Raise a `UserError` for what can be seen before the client is started."""

    @abstractmethod
    def _client(self) -> list[str]:
        """Return the client's command line, up to the command for the device's shell."""

    @abstractmethod
    def _diagnose(self, complaint: str) -> str | None:
        """Say what the client's complaint means and what to do; None if it is not a known one."""

    def _error(self, message: str) -> UserError:
        return UserError(f"device '{self.cfg.name}': {message}")

    def _unreached(self, lost: Lost) -> UserError:
        """Return what to tell when no session could be opened."""
        where = self.where
        python = f"`transport.python` = {self.transport.python}"
        said = lost.complaint or f"{self.program} ended with status {lost.status}, saying nothing"
        known = self._diagnose(lost.complaint)
        if TOO_OLD in lost.complaint:
            message = f"{python} is too old: {said}. Change it in {where}."
        elif "Exec format" in lost.complaint or lost.status == 126:
            message = (
                f"{python} cannot be executed there; is it for another architecture? ({said}) "
                f"Change it in {where}."
            )
        elif lost.status == 127:
            message = f"{python} does not exist there ({said}). Change it in {where}."
        elif known:
            message = f"{known} ({said})"
        elif lost.expired:
            limit = self.transport.connect_timeout_s
            message = (
                f"no answer within `transport.connect_timeout_s` = {limit:g} s; is it up, and does "
                f"{python} start there? Change either in {where}. ({said})"
            )
        else:
            message = f"no session could be opened: {said}. Check `transport` in {where}."
        return self._error(message)

    def _cut(self, lost: Lost, doing: str) -> UserError:
        """Return what to tell when a session has broken off."""
        why = "it no longer answers" if lost.expired else lost.complaint or "no reason is known"
        return self._error(
            f"the connection was lost while {doing}: {why}. The session there ends by itself and "
            "removes its files; run again."
        )

    def _refused(self, answer: dict[str, Any], what: str) -> UserError:
        """Return what to tell when the device could not store something."""
        folder = f"`transport.folder` = {self.transport.folder}"
        message = answer["message"]
        if answer["kind"] == "disk":
            advice = f"Free some there, or change it in {self.where}."
            return self._error(f"no space is left in {folder} for {what} ({message}). {advice}")
        if answer["kind"] == "folder":
            advice = f"Change it in {self.where}."
            return self._error(f"{what} cannot be written in {folder}: {message}. {advice}")
        return self._error(
            f"{what} was changed on its way: {message}. Run again; if it happens again, the "
            "connection or the device's memory is faulty."
        )

    def greet(self) -> None:
        """Begin the session: its folder, and the agent in it.

        Raises
        ------
        UserError
            If the device cannot be reached, its interpreter not be started, or nothing be written.
        """
        program = Path(remote_session.__file__).read_bytes()
        hello = {"folder": self.transport.folder, "lease_s": LEASE_S}
        try:
            answer = self.channel.greet(program, hello, self.transport.connect_timeout_s + 1)
        except Lost as lost:
            raise self._unreached(lost) from None
        if not answer["ok"]:
            raise self._refused(answer, "a folder for the session")
        self._greeted = True
        log.debug("%s: Python %s, %s", self.cfg.name, answer["python"], answer["folder"])
        if self.transport.machine not in (None, answer["machine"]):
            raise self._error(
                f"`transport.machine` is {self.transport.machine}, but it is {answer['machine']}. "
                f"Is it another device than the one meant? Change it in {self.where}."
            )
        content, digest = agent_file(self.cfg.engine.name)
        self._put("agent.pyz", io.BytesIO(content), len(content), digest, "the agent")

    def _put(self, name: str, content: IO[bytes], size: int, digest: str, what: str) -> str:
        command = {"do": "put", "name": name, "size": size, "sha256": digest}
        try:
            answer = self.channel.exchange(command, GRACE_S + size / SLOWEST, content)
        except Lost as lost:
            raise self._cut(lost, f"{what} was being copied") from None
        if not answer["ok"]:
            raise self._refused(answer, f"{what} ({size / 1e6:.1f} MB)")
        return str(answer["path"])

    def _place(self, file: Path) -> str:
        try:
            there = file.resolve(strict=True).stat()
        except OSError as error:
            raise self._error(f"{file} cannot be read: {error.strerror}.") from error
        key = (str(file.resolve()), there.st_size, there.st_mtime_ns)
        if key not in self._files:
            name = f"model{len(self._files)}{file.suffix}"
            with file.open("rb") as content:
                self._files[key] = self._put(name, content, there.st_size, sha256(file), str(file))
        return self._files[key]

    def _run(self, request: str, deadline_s: float) -> Ended:
        command = {"do": "run", "request": request, "deadline_s": deadline_s}
        try:
            answer = self.channel.exchange(command, deadline_s + GRACE_S)
        except Lost as lost:
            raise self._cut(lost, "a model was being profiled") from None
        return Ended(answer["status"], answer["out"], answer["err"], answer["timed_out"])

    def close(self) -> None:
        """End the session, whatever state it is in."""
        if not self.channel.close(GRACE_S) and self._greeted:
            log.warning(
                "device '%s': the session could not be closed in order; it ends by itself and removes "
                "its folder, at the latest when the device is used a day from now",
                self.cfg.name,
            )


@contextmanager
def keep(device: RemoteDevice) -> Iterator[Device]:
    """Greet the device and close the session at the end, whatever happens in between."""
    try:
        device.greet()
        yield device
    finally:
        device.close()
