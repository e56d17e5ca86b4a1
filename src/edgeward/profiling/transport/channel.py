"""A client program as a channel to the remote session: what goes in and comes out, with limits of time."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

NOISE = 1 << 16  # bytes that a login shell may print before the session begins


class Lost(Exception):
    """The client has ended, or was ended, though an answer was due.

    Attributes
    ----------
    status : the client's exit status.
    complaint : what it wrote to standard error.
    expired : whether it was ended because the time was up.
    """

    def __init__(self, status: int, complaint: str, expired: bool) -> None:
        super().__init__(complaint)
        self.status = status
        self.complaint = complaint
        self.expired = expired


class Channel:
    """A running client, by its command line.

    It has a session (setsid) of its own: Ctrl-C at the terminal must not end it before the
    session on the device is closed.
    """

    def __init__(self, command: list[str]) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._in: IO[bytes] = self._process.stdin
        self._out: IO[bytes] = self._process.stdout
        self._expired = False

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
        except BrokenPipeError:
            pass  # the client is gone; the answer that is then missing says so
        finally:
            timer.cancel()

    def _end(self) -> int:
        with suppress(OSError):
            self._in.close()
        try:
            return self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _answer(self, line: bytes) -> dict[str, Any]:
        if line.endswith(b"\n"):
            answer: dict[str, Any] = json.loads(line)
            return answer
        status = self._end()
        self._stderr.seek(0)
        complaint = self._stderr.read().decode("utf-8", "replace").strip()[-2000:]
        raise Lost(status, complaint, self._expired)

    def greet(self, program: bytes, hello: dict[str, Any], limit_s: float) -> dict[str, Any]:
        """Start the remote session, whose text is `program`; return its greeting.

        Raises
        ------
        Lost
        """
        mark = f"edgeward {secrets.token_hex(16)}"
        start = json.dumps({**hello, "mark": mark}).encode()
        greeting = b""
        with self._limit(limit_s):
            self._in.write(b"%d\n%s%s\n" % (len(program), program, start))
            self._in.flush()
            seen = 0
            while not greeting and seen < NOISE and (line := self._out.readline(NOISE)):
                seen += len(line)
                if line.strip() == mark.encode():
                    greeting = self._out.readline()
        return self._answer(greeting)

    def exchange(
        self, command: dict[str, Any], limit_s: float, payload: IO[bytes] | None = None
    ) -> dict[str, Any]:
        """Send a command, and the bytes that follow it; return the answer.

        Raises
        ------
        Lost
        """
        line = b""
        with self._limit(limit_s):
            self._in.write(json.dumps(command).encode() + b"\n")
            if payload:
                shutil.copyfileobj(payload, self._in, 1 << 18)
            self._in.flush()
            line = self._out.readline()
        return self._answer(line)

    def close(self, limit_s: float) -> bool:
        """End the session in whatever state it is; return whether it left nothing behind."""
        removed = False
        if self._process.poll() is None:
            with self._limit(limit_s):
                self._in.write(b'{"do": "close"}\n')
                self._in.flush()
                while not removed and (line := self._out.readline()):
                    # The answer of an interrupted run may have come first.
                    removed = b'"removed": true' in line
        self._end()
        self._stderr.close()
        self._out.close()
        return removed

    def kill(self) -> None:
        """End the client at once."""
        self._process.kill()
