"""Which processes of this machine work in a folder, so that the lock of one that was killed holds up nobody.

Snakemake's own lock is a file that names nobody and outlives a kill. Beside it every run holds a lock of the kernel,
which ends with its process whatever ends it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeward.pipeline.paths import STATE

AHEAD_S = 60.0
"""By how much the times of files may be ahead of this machine's clock, as those of a file server may be."""
HOLDERS = STATE / "running"
LOCKS = Path(".snakemake/locks")
RESULTS = Path("results")


def enter(sweep: str) -> str | None:
    """Hold the folder with this process, for as long as it lives; return what the user should know, if anything.

    If no process of this machine is in the folder, and nobody else has been, a lock of Snakemake is one of a process that
    was killed, and is removed.
    """
    HOLDERS.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(
        HOLDERS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
    )  # open until the process ends
    me = {"host": socket.gethostname(), "pid": os.getpid(), "sweep": sweep}
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        others = _holders(handle)
        fcntl.flock(handle, fcntl.LOCK_SH)
        _note(handle, [*others, me])
        alive = [one for one in others if Path(f"/proc/{one['pid']}").exists()]
        return "; ".join(
            f"process {one['pid']} works in this folder, too (sweep {one['sweep']})"
            for one in alive
        )
    before = _holders(handle)
    said = None
    stale = LOCKS.is_dir() and any(LOCKS.iterdir())
    if stale and before and all(one["host"] == me["host"] for one in before):
        shutil.rmtree(LOCKS)
        said = f"Taken over: the lock of process {before[-1]['pid']} (sweep {before[-1]['sweep']}), which has ended without giving it back."
    _note(handle, [*(before if stale and said is None else []), me])
    fcntl.flock(handle, fcntl.LOCK_SH)
    if n := from_the_future(RESULTS, time.time()):
        back = f"The clock was set back: {n} files of {RESULTS}/ were from the future, and are from now on from now, in their order."
        said = back if said is None else f"{said} {back}"
    return said


def from_the_future(folder: Path, now: float) -> int:
    """Give what is newer than `now` (s) the time of `now`, in the order that it had; return how much that was.

    Snakemake takes what is newer than what was made of it for changed. After a clock was set back, all that is made
    from then on would look older than what it was made from, and be made again with every run.
    """
    ahead: list[tuple[int, str]] = []
    todo = [os.fspath(folder)] if folder.is_dir() else []
    while todo:
        for entry in os.scandir(todo.pop()):
            found = entry.stat(follow_symlinks=False)
            if found.st_mtime > now + AHEAD_S:
                ahead.append((found.st_mtime_ns, entry.path))
            if entry.is_dir(follow_symlinks=False):
                todo.append(entry.path)
    for left, (_, path) in enumerate(sorted(ahead, reverse=True)):
        then = int(now * 1e9) - 1000 * left
        os.utime(path, ns=(then, then), follow_symlinks=False)
    return len(ahead)


def _holders(handle: int) -> list[dict[str, str]]:
    text = os.pread(handle, 1 << 16, 0).decode(errors="replace")
    try:
        return [json.loads(line) for line in text.splitlines()]
    except ValueError:
        return []


def _note(handle: int, holders: Sequence[Mapping[str, object]]) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, "".join(f"{json.dumps(one)}\n" for one in holders).encode(), 0)
