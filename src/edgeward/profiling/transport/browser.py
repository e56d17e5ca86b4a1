"""Devices that are pages: in a browser that is started here, or wherever somebody opens the address."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from edgeward.core.errors import UserError
from edgeward.profiling.agent.conditions import between, snapshot
from edgeward.profiling.page import page_files
from edgeward.profiling.transport.answers import understand
from edgeward.profiling.transport.config import BrowserTransport, PageTransport
from edgeward.profiling.transport.device import Device, Ended
from edgeward.profiling.transport.page_server import POLL_S, PageServer, new_token
from edgeward.profiling.transport.remote_session import PREFIX, remove_stale

if TYPE_CHECKING:
    from edgeward.profiling.config import DeviceConfig

OPTIONS = (
    "--headless=new", "--no-first-run", "--no-default-browser-check", "--disable-extensions", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-breakpad", "--disable-gpu", "--mute-audio",
    "--disable-dev-shm-usage", "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
)  # fmt: skip
SILENCE_S = 3 * POLL_S  # a page that has nothing to do asks every POLL_S
PR_SET_PDEATHSIG = 1
BIND, CERTIFICATE = (
    "EDGEWARD_BIND",
    "EDGEWARD_CERTIFICATE",
)  # environment: not what is measured, but where
HERE = "127.0.0.1:8765"


class ServedDevice(Device):
    """A page that this process serves and asks."""

    def __init__(
        self,
        cfg: DeviceConfig,
        bind: str,
        port: int,
        certificate: Path | None = None,
        token: str | None = None,
    ) -> None:
        super().__init__(cfg)
        files, self._sha256 = page_files(cfg.engine.model_dump())
        self._task = ""
        self._request: dict[str, Any] = {}
        try:
            self.server = PageServer(
                bind, port, files, self._check, self._at_mark, certificate, token
            )
        except OSError as error:
            raise self._error(
                f"the page cannot be served on {bind}, port {port}: {error}. edgeward phone takes another address of this machine "
                "(--bind), another port (--port), and a file with certificate and key (--certificate)."
            ) from error

    @property
    def agent_sha256(self) -> str:
        return self._sha256

    def _error(self, message: str) -> UserError:
        return UserError(f"device '{self.cfg.name}': {message}")

    def _check(self, posted: bytes) -> dict[str, Any]:
        answer = understand(self._task, posted)
        if self._task == "interleave" and answer["ok"]:
            models = len(self._request["models"])
            if any(index >= models for index, _ in answer["refused"]) or any(
                len(entry) + len(answer["refused"]) != models for entry in answer["samples_ns"]
            ):
                raise ValueError(f"the samples and refusals are not those of {models} models")
        return answer

    def _at_mark(self) -> Any:
        return None

    def _place(self, file: Path) -> str:
        path = file.resolve()
        known = next((name for name, there in self.server.files.items() if there == path), None)
        name = known or f"files/{len(self.server.files)}{file.suffix}"
        self.server.files[name] = path
        return name

    def _ask(self, request: str, deadline_s: float, alive: Any) -> Ended:
        self._request = json.loads(request)
        self._task = self._request["task"]
        try:
            answer = self.server.ask(request, deadline_s, alive)
        except ValueError as error:
            raise self._error(f"{error}.") from None
        if answer is None:
            return Ended(0, "", "", timed_out=True)
        return Ended(0, json.dumps(self._completed(answer)), "")

    def _completed(self, answer: dict[str, Any]) -> dict[str, Any]:
        return answer


class BrowserDevice(ServedDevice):
    """Chromium on this machine, a fresh one for every question."""

    def __init__(self, cfg: DeviceConfig, transport: BrowserTransport) -> None:
        self.transport = transport
        self.process: subprocess.Popen[bytes] | None = None
        self.program = shutil.which(transport.program) or ""
        if not self.program:
            raise UserError(
                f"device '{cfg.name}': `transport.program` = {transport.program} is not on this machine; install Chromium (Debian: "
                f"apt install chromium), or change it in config/profile/{cfg.name}.yaml."
            )
        super().__init__(cfg, "127.0.0.1", 0)

    def _at_mark(self) -> dict[str, Any]:
        """Return what the system tells at this moment, with the browser's processes as our own."""
        assert self.process is not None
        own = 0.0
        with suppress(psutil.Error):
            browser = psutil.Process(self.process.pid)
            for process in (browser, *browser.children(recursive=True)):
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    own += times.user + times.system
        return {**snapshot(), "own_s": own}

    def _completed(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Add what was seen from outside, between the page's marks."""
        if "readable" in answer:
            seen = snapshot()
            answer["readable"] = {name: seen[name] is not None for name in answer["readable"]}
        spans = list(zip(self.server.marks, self.server.marks[1:], strict=False))
        parts = answer.get("windows") or ([answer] if "conditions" in answer else [])
        for part, (before, after) in zip(parts, spans, strict=False):
            seen = between(before, after)
            unknown = dict.fromkeys(
                ("preempted", "major_faults")
            )  # those of this process are not the browser's
            part["conditions"] |= {**seen, **unknown, "load_average": os.getloadavg()[0]}
        return answer

    def _run(self, request: str, deadline_s: float) -> Ended:
        self.server.admit()
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as folder:
            log = Path(folder) / "log"
            with log.open("wb") as stderr:
                self.process = self._start(Path(folder), stderr)

            def alive() -> str | None:
                assert self.process is not None
                told = log.read_text(errors="replace").strip()[-500:]
                if self.process.poll() is not None:
                    return f"{self.program} ended with status {self.process.returncode}; it said: {told or 'nothing'}"
                if (
                    self.server.seen is None
                    and time.monotonic() - began > self.transport.start_timeout_s
                ):
                    return (
                        f"the page did not start within `transport.start_timeout_s` = {self.transport.start_timeout_s:g} s; "
                        f"{self.program} said: {told or 'nothing'}"
                    )
                return None

            try:
                return self._ask(request, deadline_s, alive)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def _start(self, folder: Path, stderr: Any) -> subprocess.Popen[bytes]:
        options = [*OPTIONS, f"--user-data-dir={folder / 'profile'}"]
        if os.geteuid() == 0:  # as root, in a container, Chromium has no sandbox
            options.append("--no-sandbox")
        environment = {**os.environ, "HOME": str(folder), "TMPDIR": str(folder)}
        environment |= {"XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
        library = ctypes.CDLL(None)
        return subprocess.Popen(
            [self.program, *options, f"{self.server.address}#now"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=environment,
            start_new_session=True,
            # Survives exec: if this process is killed, so is the browser.
            preexec_fn=lambda: library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )


class PageDevice(ServedDevice):
    """Whatever opens the address first; it answers all questions of this session."""

    def __init__(self, cfg: DeviceConfig, transport: PageTransport) -> None:
        self.transport = transport
        bind, _, port = os.environ.get(BIND, HERE).rpartition(":")
        certificate = os.environ.get(CERTIFICATE)
        if not port.isdigit():
            raise UserError(f"{BIND} = {bind}:{port} must be an address and a port, as {HERE}.")
        self.note = invitation(cfg.name)
        self.promise = self.note.with_suffix(".next")
        self.note.parent.mkdir(parents=True, exist_ok=True)
        token = self.promise.read_text().strip() if self.promise.is_file() else None
        super().__init__(cfg, bind, int(port), Path(certificate) if certificate else None, token)
        self.promise.unlink(missing_ok=True)
        _keep(self.note, self.server.address)

    def close(self, farewell: str) -> None:
        """End the session. The page learns the token of the next measurement, in case the sweep has one for this device."""
        self.note.unlink(missing_ok=True)
        following = new_token()
        _keep(self.promise, following)
        self.server.close(farewell, following)

    def _run(self, request: str, deadline_s: float) -> Ended:
        began = time.monotonic()

        def alive() -> str | None:
            seen, now = self.server.seen, time.monotonic()
            if seen is None and now - began > self.transport.wait_s:
                return f"nobody opened {self.server.address} within `transport.wait_s` = {self.transport.wait_s:g} s"
            if seen is not None and self.server.waits and now - seen > SILENCE_S:
                return "the page was closed, or the device has left the network"
            return None

        return self._ask(request, deadline_s, alive)


def _keep(path: Path, text: str) -> None:
    """Write what only this user may read."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text + "\n")


def invitation(device: str) -> Path:
    """Return the file with the address that has to be opened, while a measurement waits for a page."""
    return Path(".edgeward") / "invitations" / f"{device}.txt"


@contextmanager
def open_browser(cfg: DeviceConfig, transport: BrowserTransport) -> Iterator[Device]:
    """Open Chromium on this machine.

    Raises
    ------
    UserError
        If the program, or the engine's package, is missing.
    """
    remove_stale(Path(tempfile.gettempdir()), time.time())
    device = BrowserDevice(cfg, transport)
    try:
        yield device
    finally:
        device.server.admit()  # the visitor is gone
        device.server.close("")


@contextmanager
def open_page(cfg: DeviceConfig, transport: PageTransport) -> Iterator[Device]:
    """Serve the page, and leave its address in `invitation` until the session is over.

    Raises
    ------
    UserError
        If the page cannot be served there.
    """
    device = PageDevice(cfg, transport)
    farewell = "Broken off. The computer that shows the address says why."
    try:
        yield device
        farewell = "Done. This address has been used up. Close the page, or leave it open if the sweep has more for this device: it goes on by itself."
    finally:
        device.close(farewell)
