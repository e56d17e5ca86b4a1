"""What keeps a session on a reached device: it stores files, runs the agent, and leaves no trace.

The text of this one file (standard library, Python 3.8) is sent through the connection and executed
there; nothing is installed. It makes a folder of its own, obeys one command per line of standard
input, and answers each with one line of standard output, all JSON. When its standard input closes
or a signal ends it (the work is done, the other side was killed, the connection broke), it ends
the agent and removes the folder.

Commands: ``{"do": "put", "name", "size", "sha256"}`` followed by `size` bytes; ``{"do": "run",
"request", "deadline_s"}``; ``{"do": "close"}``. An answer is ``{"ok": true, ...}`` or ``{"ok":
false, "kind", "message"}``; ``kind`` is ``folder``, ``disk`` or ``transfer``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

PREFIX = "edgeward-session-"
STALE_S = 86400  # a folder this old belongs to a session that was killed
SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGALRM)


def refusal(error: OSError) -> dict[str, Any]:
    """Return the answer that tells of a file operation's failure."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return {"ok": False, "kind": "disk" if full else "folder", "message": error.strerror}


def remove_stale(root: Path, now: float) -> int:
    """Remove the folders that earlier sessions of this user left behind; return how many."""
    removed = 0
    for folder in root.glob(PREFIX + "*"):
        there = folder.lstat()
        old = now - there.st_mtime > STALE_S
        if old and there.st_uid == os.geteuid() and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


class RemoteSession:
    """One folder, and at most one process of the agent.

    Parameters
    ----------
    root : the folder in which to make the session's own.
    lease_s : without a sign of life of the other side for so long, the session ends.
    stream, out : the two directions of the connection.
    """

    def __init__(self, root: Path, lease_s: int, stream: BinaryIO, out: BinaryIO) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        self.lease_s = lease_s
        self.stream = stream
        self.out = out
        self.process: subprocess.Popen[bytes] | None = None
        self.waiter: threading.Thread | None = None
        self.closing = False

    def answer(self, content: dict[str, Any]) -> None:
        """Write one answer; the other side may be gone, which the next reading shows."""
        with contextlib.suppress(OSError):
            self.out.write(json.dumps(content).encode() + b"\n")
            self.out.flush()

    def _store(self, path: Path, size: int) -> tuple[str, OSError | None]:
        """Write the next `size` bytes of the stream to a file; consume them even if that fails."""
        digest = hashlib.sha256()
        failure = None
        handle = None
        try:
            handle = path.open("wb", buffering=0)
        except OSError as error:
            failure = error
        while size:
            signal.alarm(self.lease_s)
            chunk = self.stream.read(min(size, 1 << 20))
            if not chunk:
                raise EOFError
            size -= len(chunk)
            digest.update(chunk)
            try:
                while handle and not failure and chunk:
                    chunk = chunk[handle.write(chunk) :]
            except OSError as error:
                failure = error
        if handle:
            handle.close()
        return digest.hexdigest(), failure

    def put(self, name: str, size: int, sha256: str) -> dict[str, Any]:
        """Store a file that follows in the stream; one that is not whole does not stay."""
        path = self.folder / name
        found, failure = self._store(path, size)
        if not failure and found == sha256:
            return {"ok": True, "path": str(path)}
        with contextlib.suppress(OSError):
            path.unlink()
        if failure:
            return refusal(failure)
        message = f"its SHA-256 is {found} on arrival, {sha256} was sent"
        return {"ok": False, "kind": "transfer", "message": message}

    def run(self, request: str, deadline_s: float) -> None:
        """Start the agent; a thread waits for it and answers, so that this one sees the stream end."""
        environment = {
            **os.environ,
            "TMPDIR": str(self.folder),
            "XDG_CACHE_HOME": str(self.folder),
            "CUDA_CACHE_PATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "agent.pyz"],
            cwd=str(self.folder),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            # Survives exec: it ends the agent even if this process has been killed.
            preexec_fn=lambda: signal.alarm(int(deadline_s) + 10),
        )
        self.waiter = threading.Thread(target=self._wait, args=(self.process, request, deadline_s))
        self.waiter.daemon = True
        self.waiter.start()

    def _wait(self, process: subprocess.Popen[bytes], request: str, deadline_s: float) -> None:
        timed_out = False
        try:
            out, err = process.communicate(request.encode(), timeout=deadline_s)
        except subprocess.TimeoutExpired:
            timed_out = True
            self.kill()
            out, err = process.communicate()
        if self.closing:
            return  # that it was killed is no answer
        self.answer(
            {
                "ok": True,
                "status": process.returncode,
                "timed_out": timed_out,
                "out": out.decode("utf-8", "replace"),
                "err": err.decode("utf-8", "replace")[-20000:],
            }
        )

    def kill(self) -> None:
        """End the agent and everything that it started."""
        if self.process and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> bool:
        """Leave the device as it was; return whether that worked."""
        for name in SIGNALS:
            signal.signal(name, signal.SIG_IGN)
        self.closing = True
        self.kill()
        if self.waiter:
            self.waiter.join(5)
        shutil.rmtree(self.folder, ignore_errors=True)
        return not self.folder.exists()

    def serve(self) -> None:
        """Obey commands until the stream ends or the lease runs out."""
        patience = self.lease_s
        while True:
            signal.alarm(patience)
            line = self.stream.readline()
            if not line.endswith(b"\n"):
                return
            command = json.loads(line.decode())
            do = command.pop("do")
            patience = self.lease_s
            os.utime(self.folder)
            if do == "put":
                self.answer(self.put(**command))
            elif do == "run":
                self.run(**command)
                patience += int(command["deadline_s"])
            else:
                self.answer({"ok": True, "removed": self.close()})
                return


def main(stream: BinaryIO, out: BinaryIO) -> None:
    """Greet, and keep a session until it ends."""
    hello = json.loads(stream.readline().decode())
    for name in SIGNALS:
        signal.signal(name, lambda *_: sys.exit(1))
    session = None
    try:
        try:
            root = Path(hello["folder"]).expanduser()
            stale = remove_stale(root, time.time())
            session = RemoteSession(root, hello["lease_s"], stream, out)
            greeting: dict[str, Any] = {
                "ok": True,
                "machine": platform.machine(),
                "python": platform.python_version(),
                "folder": str(session.folder),
                "stale": stale,
            }
        except OSError as error:
            greeting = refusal(error)
        out.write(("\n{}\n{}\n".format(hello["mark"], json.dumps(greeting))).encode())
        out.flush()
        if session:
            session.serve()
    except (EOFError, OSError):
        pass  # the other side is gone
    finally:
        if session:
            session.close()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
