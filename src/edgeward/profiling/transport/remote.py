"""A session with a device at the other end of a byte stream, kept there by `keeper`."""

from __future__ import annotations

import io
import json
import logging
import secrets
import shlex
import shutil
import subprocess
import tempfile
import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from edgeward.core.errors import UserError
from edgeward.core.io import sha256
from edgeward.profiling.bundle import agent_file
from edgeward.profiling.transport import keeper
from edgeward.profiling.transport.device import Device, Ended

if TYPE_CHECKING:
    from edgeward.profiling.config import ProfileConfig
    from edgeward.profiling.transport.config import AdbTransport, SshTransport

log = logging.getLogger(__name__)

TOO_OLD = "edgeward needs Python 3.8"
# Every Python since 2.6 can read this much, so that an old one can say that it is too old.
BOOTSTRAP = (
    "import sys; v = sys.version_info[:2]; "
    f"v < (3, 8) and sys.exit('{TOO_OLD}, this is %d.%d' % v); "
    "i = sys.stdin.buffer; exec(compile(i.read(int(i.readline())), 'keeper', 'exec'))"
)
LEASE_S = 900  # the device ends a session from which it has heard nothing for so long
GRACE_S = 60  # beyond the deadline that the device itself enforces
SLOWEST = 1e5  # bytes per second; a transfer slower than this is given up
NOISE = 1 << 16  # bytes that a login shell may print before the session begins


class RemoteDevice(Device):
    """The agent on a device that a client program of this machine reaches."""

    program: str  # the client
    package: str  # what provides it, for the message when it is absent

    def __init__(self, cfg: ProfileConfig, transport: SshTransport | AdbTransport) -> None:
        super().__init__(cfg)
        self.transport = transport
        self.connected = False
        self._expired = False
        self._files: dict[tuple[str, int, int], str] = {}
        if not shutil.which(self.program):
            raise self._error(
                f"the program `{self.program}` is not on this machine; install {self.package}."
            )
        self._check()
        command = f"exec {shlex.quote(transport.python)} -c {shlex.quote(BOOTSTRAP)}"
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(
            [*self._client(), command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,  # Ctrl-C must not end it before the session is closed
        )

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

    @property
    def _in(self) -> IO[bytes]:
        assert self._process.stdin
        return self._process.stdin

    @property
    def _out(self) -> IO[bytes]:
        assert self._process.stdout
        return self._process.stdout

    @contextmanager
    def _limit(self, seconds: float) -> Iterator[None]:
        """End the client, and with it every read and write, if the block takes longer."""

        def give_up() -> None:
            self._expired = True
            self._process.kill()

        timer = threading.Timer(seconds, give_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        except OSError:
            pass  # the client is gone; the answer that is then missing says so
        finally:
            timer.cancel()

    def _end(self) -> int:
        """End the client; return its exit status."""
        with suppress(OSError):
            self._in.close()
        try:
            status = self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        return status

    def _lost(self, doing: str) -> UserError:
        """Return what to tell when the client has ended though an answer was due."""
        status = self._end()
        self._stderr.seek(0)
        complaint = self._stderr.read().decode("utf-8", "replace").strip()[-2000:]
        said = complaint or f"{self.program} ended with status {status} and said nothing"
        where = self.where
        if self.connected:
            why = "it no longer answers" if self._expired else said
            return self._error(
                f"the connection was lost while {doing}: {why}. The session there ends by itself and "
                "removes its files; run again."
            )
        python = f"`transport.python` = {self.transport.python}"
        if TOO_OLD in complaint:
            return self._error(f"{python} is too old: {said}. Change it in {where}.")
        if "Exec format" in complaint or status == 126:
            return self._error(
                f"{python} cannot be executed there; is it for another architecture? ({said}) "
                f"Change it in {where}."
            )
        if status == 127:
            return self._error(f"{python} does not exist there ({said}). Change it in {where}.")
        known = self._diagnose(complaint)
        if known:
            return self._error(f"{known} ({said})")
        if self._expired:
            limit = self.transport.connect_timeout_s
            return self._error(
                f"no answer within `transport.connect_timeout_s` = {limit:g} s; is it up, and does "
                f"{python} start there? Change either in {where}. ({said})"
            )
        return self._error(f"no session could be opened: {said}. Check `transport` in {where}.")

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
        mark = f"edgeward {secrets.token_hex(16)}"
        source = Path(keeper.__file__).read_bytes()
        hello = {"mark": mark, "folder": self.transport.folder, "lease_s": LEASE_S}
        greeting = b""
        with self._limit(self.transport.connect_timeout_s + 1):
            self._in.write(
                f"{len(source)}\n".encode() + source + json.dumps(hello).encode() + b"\n"
            )
            self._in.flush()
            seen = 0
            while not greeting and seen < NOISE and (line := self._out.readline(NOISE)):
                seen += len(line)
                if line.strip() == mark.encode():
                    greeting = self._out.readline()
        if not greeting:
            raise self._lost("it was being greeted")
        answer = json.loads(greeting)
        if not answer["ok"]:
            raise self._refused(answer, "a folder for the session")
        self.connected = True
        self.folder = answer["folder"]
        log.debug("%s: Python %s, %s", self.cfg.name, answer["python"], self.folder)
        if self.transport.machine not in (None, answer["machine"]):
            raise self._error(
                f"`transport.machine` is {self.transport.machine}, but it is {answer['machine']}. "
                f"Is it another device than the one meant? Change it in {self.where}."
            )
        content, digest = agent_file()
        self._put("agent.pyz", io.BytesIO(content), len(content), digest, "the agent")

    def _exchange(
        self,
        command: dict[str, Any],
        limit_s: float,
        doing: str,
        payload: IO[bytes] | None = None,
    ) -> dict[str, Any]:
        """Send a command, and the bytes that follow it; return the answer."""
        line = b""
        with self._limit(limit_s):
            self._in.write(json.dumps(command).encode() + b"\n")
            if payload:
                shutil.copyfileobj(payload, self._in, 1 << 18)
            self._in.flush()
            line = self._out.readline()
        if not line.endswith(b"\n"):
            raise self._lost(doing)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _put(self, name: str, content: IO[bytes], size: int, digest: str, what: str) -> str:
        answer = self._exchange(
            {"do": "put", "name": name, "size": size, "sha256": digest},
            GRACE_S + size / SLOWEST,
            f"{what} was being copied",
            content,
        )
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

    def _run(self, request: str) -> Ended:
        deadline_s = self.cfg.deadline_s
        answer = self._exchange(
            {"do": "run", "request": request, "deadline_s": deadline_s},
            deadline_s + GRACE_S,
            "a model was being profiled",
        )
        return Ended(answer["status"], answer["out"], answer["err"], answer["timed_out"])

    def close(self) -> None:
        """End the session, whatever state it is in; what is left of it there is told."""
        removed = not self.connected
        if self.connected and self._process.poll() is None:
            with self._limit(GRACE_S):
                self._in.write(b'{"do": "close"}\n')
                self._in.flush()
                while not removed and (line := self._out.readline()):
                    # The answer of an interrupted run may have come first.
                    removed = b'"removed": true' in line
        self._end()
        self._stderr.close()
        self._out.close()
        if not removed:
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
