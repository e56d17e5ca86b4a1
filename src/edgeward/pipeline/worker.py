"""Warm processes that jobs are forked from, so that no job waits for imports.

Importing torch, torchao, Lightning and the rest takes longer than many a job. While the workflow runs, a dispatcher
listens on a socket, and behind it is one worker per environment (interpreter and environment variables): it has
imported what jobs of a stage imported before, and forks a child for every job. The process that Snakemake starts
hands its script over, waits, and ends with the child's status; the child has its working directory, files 0 to 2,
environment, ``sys.path`` and signals, and runs the same script. Modules of edgeward itself are always imported afresh.

A worker forks only while it has one thread, and it holds no accelerator: it imports, and computes nothing. What jobs
of a stage import is noted by the jobs themselves, in the user's cache; packages that start a thread when they are
imported are left to them. Where no worker can be had (another system than Linux, a job on another node,
``EDGEWARD_WORKER=off``) the job runs in its own process.
Workers end with the workflow and children with their worker, also by kill -9: the kernel tells them (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import importlib
import json
import os
import runpy
import secrets
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from edgeward.pipeline.paths import WORKER_LOG

ADDRESS = "EDGEWARD_WORKER"  # pid of the workflow's process, and the name of its socket; or "off"
WORKFLOW = "EDGEWARD_WORKFLOW"  # pid of the workflow's process
OFF = "off"
VARYING = ("_", "SHLVL")  # variables that a shell sets anew for every process
PR_SET_PDEATHSIG = 1
# What a job's own process passes on to the child, as SIGTERM.
ENDING = (signal.SIGTERM, signal.SIGINT)
PATIENCE_S = 10.0  # for a request to come in whole
Request = dict[str, Any]

_client: int | None = None


def client() -> int | None:
    """Return the process that Snakemake started for this job, if this is a worker's child."""
    return _client


ALONE = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""What keeps imports from starting threads, after which a process cannot be forked: pyarrow's allocator does, and pandas and MONAI
import it."""


# -- The workflow's side --


class Workers:
    """The dispatcher of one run of the workflow."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and tell jobs by the environment where it listens."""
        os.environ[WORKFLOW] = str(os.getpid())
        if sys.platform != "linux" or os.environ.get(ADDRESS) == OFF:
            return
        name = f"edgeward-{secrets.token_hex(16)}"
        WORKER_LOG.parent.mkdir(parents=True, exist_ok=True)
        # Listening before the process is there: no job can come too early.
        with socket.socket(socket.AF_UNIX) as listener, WORKER_LOG.open("w") as log:
            listener.bind(f"\0{name}")
            listener.listen(128)
            self._process = _spawn("dispatch", sys.executable, listener, None, log)
        os.environ[ADDRESS] = f"{os.getpid()}:{name}"

    @property
    def pid(self) -> int | None:
        """Its number, if it was started."""
        return None if self._process is None else self._process.pid

    def stop(self) -> None:
        """End it and all that it started."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            del os.environ[ADDRESS]
            self._process = None


def _spawn(
    what: str,
    executable: str,
    channel: socket.socket,
    environment: dict[str, str] | None,
    log: Any = None,
) -> subprocess.Popen[bytes]:
    call = f"from edgeward.pipeline.worker import {what}; {what}({channel.fileno()}, {os.getpid()})"
    return subprocess.Popen(
        [executable, "-c", call],
        env=(os.environ if environment is None else environment) | ALONE,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT if log is not None else None,
        pass_fds=[channel.fileno()],
        start_new_session=True,
    )


# -- The side of a job's own process --


def hand_over(stage: str) -> str:
    """Let a worker's child run this script and end with its status; where that cannot be, return why.

    Nothing is said ("") where no worker is meant to run, and in the child itself.
    """
    address = os.environ.get(ADDRESS, OFF)
    if _client is not None or address == OFF:
        return ""
    pid, _, name = address.partition(":")
    if int(pid) not in _ancestors():
        return "the workflow's worker does not reach here"
    request = {
        "stage": stage,
        "argv": [str(Path(sys.argv[0]).resolve()), *sys.argv[1:]],
        "folder": str(Path.cwd()),
        "environment": {k: v for k, v in os.environ.items() if k not in VARYING},
        "path": sys.path,
        "executable": sys.executable,
    }
    with socket.socket(socket.AF_UNIX) as channel:
        try:
            channel.connect(f"\0{name}")
            if not _is_own(channel):
                return "the workflow's worker is another user's"
            _send(channel, request, [0, 1, 2])
        except OSError as error:
            return f"the workflow's worker cannot be reached ({error})"
        told = {n: signal.signal(n, lambda *_: channel.shutdown(socket.SHUT_WR)) for n in ENDING}
        answer = channel.makefile().read()
    if not answer:
        print(
            f"The worker ended before the job did ({WORKER_LOG}); {ADDRESS}={OFF} runs jobs without one.",
            file=sys.stderr,
        )
        sys.exit(1)
    said = json.loads(answer)
    if "refused" in said:
        for number, handler in told.items():
            signal.signal(number, handler)
        return str(said["refused"])
    sys.exit(said["status"])


def end_with_workflow() -> None:
    """Have this process, which no worker has forked, and those that it starts end with the workflow's, also by kill -9."""
    pid = int(os.environ.get(WORKFLOW, 0))
    if sys.platform != "linux" or pid not in _ancestors():  # of another machine, or by hand
        return
    import psutil

    try:
        workflow = os.pidfd_open(pid)
    except OSError:
        return

    def wait() -> None:
        select.select([workflow], [], [])
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _ancestors() -> Iterator[int]:
    pid = os.getpid()
    while pid > 1:
        stat = Path(f"/proc/{pid}/stat").read_text()
        pid = int(stat.rpartition(")")[2].split()[1])
        yield pid


def _peer(channel: socket.socket) -> tuple[int, int]:
    """Return process and user at the other end."""
    of = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, user, _ = struct.unpack("3i", of)
    return pid, user


def _is_own(channel: socket.socket) -> bool:
    return _peer(channel)[1] == os.getuid()


def _send(channel: socket.socket, request: Request, files: list[int]) -> None:
    content = json.dumps(request).encode()
    socket.send_fds(channel, [struct.pack("!I", len(content))], files)
    channel.sendall(content)


def _receive(channel: socket.socket, files: int) -> tuple[Request, list[int]]:
    """Return the next request with its open files; raise EOFError where there is none."""
    head, found, *_ = socket.recv_fds(channel, 4, files)
    if len(head) < 4:
        raise EOFError
    content = b""
    (size,) = struct.unpack("!I", head)
    while len(content) < size:
        part = channel.recv(size - len(content))
        if not part:
            raise EOFError
        content += part
    return json.loads(content), list(found)


# -- The dispatcher --


def dispatch(listener: int, parent: int) -> NoReturn:
    """Give every job that asks to the worker of its environment, until the workflow ends."""
    workers: dict[str, tuple[subprocess.Popen[bytes], socket.socket]] = {}
    _end_with(parent, signal.SIGTERM)
    with socket.socket(fileno=listener) as door:
        while True:
            channel, _ = door.accept()
            with channel:
                if not _is_own(channel):
                    continue
                channel.settimeout(PATIENCE_S)
                try:
                    request, files = _receive(channel, 3)
                except (EOFError, OSError, ValueError):
                    continue
                channel.settimeout(None)
                key = json.dumps([request["executable"], request["environment"]], sort_keys=True)
                if key not in workers or workers[key][0].poll() is not None:
                    ours, theirs = socket.socketpair()
                    with theirs:
                        started = _spawn(
                            "work", request["executable"], theirs, request["environment"]
                        )
                    workers[key] = started, ours
                try:
                    _send(workers[key][1], request, [channel.fileno(), *files])
                except OSError as error:
                    _answer(channel, refused=f"the worker of this environment has ended ({error})")
                for file in files:
                    os.close(file)


def _end_with(parent: int, number: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it ended before
        os._exit(1)


def _answer(channel: socket.socket, **said: Any) -> None:
    with contextlib.suppress(OSError):  # whoever asked may be gone
        channel.sendall(json.dumps(said).encode())


# -- A worker --


def work(channel: int, parent: int) -> None:
    """Fork a child for every job that comes through `channel`; returns in the children, after their script."""
    _end_with(parent, signal.SIGTERM)
    request = _Worker(socket.socket(fileno=channel)).serve()
    imports = Imports(request["stage"])
    try:
        with imports.noted():
            runpy.run_path(request["argv"][0], run_name="__main__")
    finally:
        imports.save(imports.new)


@dataclass
class _Asked:
    """A job that is to be forked once what it needs has been imported."""

    request: Request
    job: socket.socket  # who waits for it
    files: list[int]
    imports: Imports


class _Worker:
    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.asked: list[_Asked] = []
        self.jobs: dict[int, tuple[socket.socket, int]] = {}  # process: who waits, and its pidfd
        self.ready = selectors.DefaultSelector()
        self.ready.register(channel, selectors.EVENT_READ, lambda: self._take(channel))
        self.crowd = ""  # what has started a thread
        # Of other stages, for when nothing else is to be done.
        self.later: list[Imports] | None = None
        self.tried: set[str] = set()
        signal.signal(signal.SIGTERM, lambda *_: self._end())

    def _end(self) -> NoReturn:
        for pid in self.jobs:
            _signal(pid, signal.SIGKILL)
        os._exit(0)

    def serve(self) -> Request:
        """Import and fork, one module and one job at a time; return in a child, with its request."""
        while True:
            busy = self.asked or self.later
            for key, _ in self.ready.select(0 if busy else None):
                key.data()
            # Whoever lacks least comes first: no short job waits for what a long one imports.
            for at in sorted(self.asked, key=lambda asked: len(asked.imports.missing)):
                if at.imports.missing and not self.crowd:
                    self._import(at.imports)
                    break
                self.asked.remove(at)
                if self._forked(at):
                    return at.request
            else:
                if self.later and not self.crowd:
                    self._import(self.later[0])
                    self.later = [imports for imports in self.later if imports.missing]

    def _take(self, channel: socket.socket) -> None:
        try:
            request, (back, *files) = _receive(channel, 4)
        except EOFError:  # the dispatcher has ended
            self._end()
        sys.path[:] = request["path"]
        imports = Imports(request["stage"])
        self.asked.append(_Asked(request, socket.socket(fileno=back), files, imports))
        if self.later is None:
            self.later = imports.of_other_stages()

    def _import(self, imports: Imports) -> None:
        """Import the next of the modules that jobs of a stage have imported before, if it is still there."""
        name = imports.missing.pop(0)
        if name in sys.modules or name in self.tried:
            return
        self.tried.add(name)
        with imports.noted():
            try:
                importlib.import_module(name)
            except Exception as error:  # the job itself will say what it lacks
                print(f"{imports.stage}: {name}: {error!r}", flush=True)
        if imports.crowding:
            self.crowd = (
                f"importing {name} starts a thread, and a process with threads cannot be forked"
            )
            print(f"{self.crowd}; the next run leaves it to the jobs", flush=True)
            imports.save([])

    def _forked(self, asked: _Asked) -> bool:
        """Fork the job, or refuse it; tell whether this is the child."""
        job = asked.job
        if self.crowd:
            _answer(job, refused=self.crowd)
            job.close()
        else:
            gc.collect()
            gc.freeze()  # pages of what is never collected stay shared
            parent, pid = os.getpid(), os.fork()
            if pid == 0:
                self._become(asked, parent)
                return True
            ended = os.pidfd_open(pid)
            self.jobs[pid] = job, ended
            self.ready.register(ended, selectors.EVENT_READ, lambda: self._ended(pid))
            self.ready.register(job, selectors.EVENT_READ, lambda: self._told_to_end(pid, job))
        for file in asked.files:
            os.close(file)
        return False

    def _become(self, asked: _Asked, parent: int) -> None:
        """Turn this fork into the process that Snakemake started, as far as its script can tell."""
        global _client
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        _end_with(parent, signal.SIGKILL)
        _client = _peer(asked.job)[0]
        self.ready.close()
        self.channel.close()
        asked.job.close()
        for other, ended in self.jobs.values():
            other.close()
            os.close(ended)
        for waiting in self.asked:
            waiting.job.close()
            for file in waiting.files:
                os.close(file)
        for number, file in enumerate(asked.files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(asked.request["folder"])
        sys.path[:] = asked.request["path"]
        sys.argv[:] = asked.request["argv"]

    def _ended(self, pid: int) -> None:
        job, ended = self.jobs.pop(pid)
        self.ready.unregister(ended)
        os.close(ended)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        _signal(pid, signal.SIGKILL)  # what it may have left behind in its group
        if job.fileno() in self.ready.get_map():
            self.ready.unregister(job)
        _answer(job, status=code if code >= 0 else 128 - code)
        job.close()

    def _told_to_end(self, pid: int, job: socket.socket) -> None:
        if pid in self.jobs:  # both may have ended at once
            self.ready.unregister(job)
            _signal(pid, signal.SIGTERM)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


# -- What jobs import --


class Imports:
    """The modules that jobs of a stage have imported, in the order in which their imports ended.

    `crowding` are the packages among them that start a thread when they, or what they import, are imported.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
        installation = hashlib.sha256(sys.prefix.encode()).hexdigest()[:16]
        self.place = cache / "edgeward" / "imported" / installation / f"{stage}.json"
        self.names: list[str] = []
        self.crowding: set[str] = set()
        self._before = {*sys.modules}
        with contextlib.suppress(OSError, ValueError):
            self.names = json.loads(self.place.read_text())
        self.missing = [name for name in self.names if name not in sys.modules]

    def of_other_stages(self) -> list[Imports]:
        """Return what jobs of the other stages have imported."""
        return [
            Imports(p.stem) for p in sorted(self.place.parent.glob("*.json")) if p != self.place
        ]

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note within this context which imports start threads."""
        bootstrap: Any = importlib._bootstrap
        load = bootstrap._load_unlocked

        def watched(spec: Any) -> Any:
            threads = _threads()
            try:
                return load(spec)
            finally:
                if _threads() > threads:
                    self.crowding.add(spec.name.partition(".")[0])

        bootstrap._load_unlocked = watched
        try:
            yield
        finally:
            bootstrap._load_unlocked = load

    @property
    def new(self) -> list[str]:
        """What was imported of installed packages since this object was made."""
        installed = tuple(sysconfig.get_paths()[k] for k in ("stdlib", "purelib", "platlib"))
        return [
            name
            for name, module in list(sys.modules.items())
            if name not in self._before
            and str(getattr(module, "__file__", None) or "").startswith(installed)
            and not name.endswith("__main__")
        ]

    def save(self, new: list[str]) -> None:
        """Keep these names, too, less what starts threads."""
        apart = {"edgeward", *self.crowding}
        names = [n for n in dict.fromkeys([*self.names, *new]) if n.partition(".")[0] not in apart]
        if names == self.names:
            return
        with contextlib.suppress(OSError):  # a cache that cannot be written is none
            self.place.parent.mkdir(parents=True, exist_ok=True)
            whole = self.place.with_suffix(f".{os.getpid()}")
            whole.write_text(json.dumps(names))
            whole.replace(self.place)


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))
