"""Locks beside the outbox: one deliverer at a time, and silence while a stage measures."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


def _open(outbox: Path, name: str) -> int:
    Path(outbox).mkdir(parents=True, exist_ok=True)
    return os.open(Path(outbox) / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


@contextmanager
def quiet(outbox: Path) -> Iterator[None]:
    """Hold off all delivery, once the entry that is being delivered is through."""
    handle = _open(outbox, "quiet.lock")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _try_lock(outbox: Path, name: str, how: int) -> Iterator[bool]:
    handle = _open(outbox, name)
    try:
        try:
            fcntl.flock(handle, how | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def busy(outbox: Path) -> AbstractContextManager[bool]:
    """Yield False if somebody measures; else True, and nobody begins to measure in the block."""
    return _try_lock(outbox, "quiet.lock", fcntl.LOCK_SH)


@contextmanager
def only_deliverer(
    outbox: Path, patient: Callable[[Callable[[], bool]], bool] = lambda attempt: attempt()
) -> Iterator[bool]:
    """Yield True if this process is now the only deliverer of the outbox, else False.

    Parameters
    ----------
    patient : calls what it is given, which tries to get the lock and tells whether it has, as often as it is worth.
    """
    handle = _open(outbox, "deliver.lock")

    def attempt() -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        yield patient(attempt)
    finally:
        os.close(handle)


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`, which is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
