"""The door through which every byte of a user's data comes in.

Only regular files below the user's folder are opened, none costs more than `data.limits` allows, and whatever a reader raises
becomes the reason why this one case cannot be used.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import signal
import stat
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from edgeward.core.errors import UserError, one_line
from edgeward.data.config import Checks, Limits

log = logging.getLogger(__name__)

WHERE = "(config/data/)"
_KINDS = {
    stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device", stat.S_IFDIR: "a folder",
}  # fmt: skip
_SAID = 300  # characters of another library's message that a reason repeats
T = TypeVar("T")


class BadImage(Exception):
    """One case cannot be used; the message is the reason."""


def shown(name: str) -> str:
    """Return a file name as text that can be written anywhere: bytes that are no UTF-8, and what cannot be seen, as \\xff."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def said(error: BaseException) -> str:
    """Return what an exception of any library says, short and on one line."""
    text = one_line(error)
    name = type(error).__name__
    return shown(f"{name}: {text[:_SAID]}{' ..' if len(text) > _SAID else ''}" if text else name)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class Door:
    """What one run of `prepare` lets in.

    Parameters
    ----------
    limits, checks : the sections of the data set's config.

    Attributes
    ----------
    noted : what was found in cases that are used all the same: kind -> number of cases.
    """

    def __init__(self, limits: Limits | None = None, checks: Checks | None = None) -> None:
        self.limits, self.checks = limits or Limits(), checks or Checks()
        self.noted: Counter[str] = Counter()
        self._real: dict[str, str] = {}

    # --- paths -----------------------------------------------------------------------------

    def file(self, root: Path, relative: str | os.PathLike[str]) -> Path:
        """Return the path of a regular file below `root`.

        Raises
        ------
        BadImage
            If there is none, it is another kind of thing, or its name is no UTF-8.
        UserError
            If the path, or a link on it, leads out of `root`.
        """
        name = os.path.normpath(relative)
        if os.path.isabs(name) or name.split(os.sep)[0] == os.pardir:
            raise _leads_out(os.fspath(relative), root)
        path = os.path.join(root, name)
        try:
            if not _is_text(name):
                raise BadImage("its name is no UTF-8: rename it")
            found = os.lstat(path)
            real = self._resolved(os.path.dirname(path))
            if stat.S_ISLNK(found.st_mode):
                real = os.path.dirname(os.path.realpath(path))
            top = self._resolved(os.fspath(root))
            if _outside(real, top):
                raise _leads_out(name, root, link=True)
            kind = stat.S_IFMT(os.stat(path).st_mode)
        except FileNotFoundError:
            raise BadImage("no such file") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BadImage(f"is no path of a file ({reason})") from None
        if kind != stat.S_IFREG:
            raise BadImage(f"is {_KINDS.get(kind, 'no regular file')}, no file")
        return Path(path)

    def _resolved(self, folder: str) -> str:
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        return self._real[folder]

    def files(
        self, root: Path, suffixes: Collection[str] = (), *, top: Path | None = None
    ) -> tuple[list[str], list[tuple[str, str]]]:
        """List the files below a folder, subfolders included.

        Parameters
        ----------
        suffixes : endings that count, in lower case; none: all files do.
        top : the folder that links may not leave; `root` by default.

        Returns
        -------
        Their paths below `root`, sorted, and name and reason of what cannot be used: pipes, sockets and devices, links to
        folders (which are not followed), names that are no UTF-8.

        Raises
        ------
        UserError
            If a link leads out of `top`, or there are more files than `limits.cases`.
        """
        names: list[str] = []
        lost: list[tuple[str, str]] = []
        top = root if top is None else top
        for folder, folders, files in os.walk(root, onerror=_unreadable):
            below = os.path.relpath(folder, root)
            for name in folders:
                path = os.path.join(folder, name)
                if os.path.islink(path):
                    self._check_link(path, top)
                    reason = "a link to a folder, which is not followed"
                    lost.append((os.path.normpath(os.path.join(below, name)), reason))
            for name in files:
                if suffixes and os.path.splitext(name)[1].lower() not in suffixes:
                    continue
                relative = os.path.normpath(os.path.join(below, name))
                try:
                    self.file(top, os.path.relpath(os.path.join(folder, name), top))
                except BadImage as error:
                    lost.append((shown(relative), str(error)))
                else:
                    names.append(relative)
                self.count(len(names) + len(lost), root)
        return sorted(names), sorted(lost)

    def _check_link(self, path: str, root: Path) -> None:
        real, top = os.path.realpath(path), self._resolved(os.fspath(root))
        if _outside(real, top):
            raise _leads_out(os.path.relpath(path, root), root, link=True)

    def count(self, n: int, where: Path) -> None:
        """Refuse more cases than `limits.cases`."""
        if n > self.limits.cases:
            raise UserError(
                f"{where} holds more than {self.limits.cases} files or rows; data.limits.cases {WHERE} allows no more."
            )

    # --- bytes -----------------------------------------------------------------------------

    def open(self, path: Path, *, whole: bool = True) -> IO[bytes]:
        """Open a regular file that is not too large; BadImage if it is none.

        Parameters
        ----------
        whole : whether it is read as a whole; an archive, read member by member, may be larger.
        """
        try:
            # A pipe that took the file's place since it was listed must not block.
            number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            raise BadImage(f"cannot be read ({said(error)})") from error
        handle = os.fdopen(number, "rb")
        found = os.fstat(number)
        try:
            if not stat.S_ISREG(found.st_mode):
                raise BadImage(f"is {_KINDS.get(stat.S_IFMT(found.st_mode), 'no file')}, no file")
            if whole and found.st_size > self.limits.file_mib << 20:
                raise BadImage(self.beyond(f"{found.st_size >> 20} MiB", "file_mib"))
        except BadImage:
            handle.close()
            raise
        return handle

    def read(self, path: Path) -> bytes:
        """Return the bytes of a file; BadImage if it is none, is too large, or cannot be read."""
        with self.open(path) as handle:
            try:
                return handle.read((self.limits.file_mib << 20) + 1)
            except OSError as error:
                raise BadImage(f"cannot be read ({said(error)})") from error

    def text(self, root: Path, name: str, what: str) -> str:
        """Return the text of a file below `root` that names cases; UserError if it is none in UTF-8.

        Parameters
        ----------
        what : what the file should be, for the message.
        """
        try:
            return self.read(self.file(root, name)).decode("utf-8-sig")
        except (BadImage, UnicodeDecodeError) as error:
            raise UserError(
                f"{root / name} is no {what} in UTF-8 ({error}); save it as one."
            ) from error

    def json(self, root: Path, name: str, what: str) -> Any:
        """Return the content of a JSON file below `root`; UserError if it is none."""
        try:
            return json.loads(self.text(root, name, what))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{root / name} is no {what} ({said(error)}).") from error

    def unpacked(self, path: Path) -> IO[bytes]:
        """Open a file, through gzip where its name ends so; more than `limits.decoded_mib` is never unpacked."""
        handle = self.open(path)
        if path.suffix.lower() != ".gz":
            return handle
        return _Bounded(handle, self)  # type: ignore[return-value]

    def check_bytes(self, n: int, what: str) -> None:
        """Refuse what takes more than `limits.decoded_mib` when it is unpacked."""
        if n > self.limits.decoded_mib << 20:
            raise BadImage(self.beyond(f"{what} of {n >> 20} MiB", "decoded_mib"))

    def check_voxels(self, n: int, what: str = "") -> None:
        """Refuse a volume of more than `limits.voxels`."""
        if n > self.limits.voxels:
            raise BadImage(self.beyond(f"{n} voxels{what}", "voxels"))

    def beyond(self, what: str, limit: str) -> str:
        """Return the reason for something that is beyond a limit."""
        return f"{what}: data.limits.{limit} {WHERE} allows {getattr(self.limits, limit)}"

    # --- cases -----------------------------------------------------------------------------

    def admit(self, read: Callable[[], T]) -> T:
        """Call a reader of one case.

        Raises
        ------
        BadImage
            Whatever the reader stumbles over, and if it takes longer than `limits.seconds`.
        """
        try:
            with within(self.limits.seconds):
                return read()
        except (BadImage, UserError):
            raise
        except MemoryError as error:
            raise BadImage("needs more memory than there is") from error
        except Exception as error:  # readers raise what they like
            log.debug("a reader failed", exc_info=True)
            raise BadImage(f"cannot be read ({said(error)})") from error


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise BadImage in the block if it takes longer; only the main thread can be stopped so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise BadImage(
            f"takes longer than {seconds:g} s to read: data.limits.seconds {WHERE} allows no more"
        )

    before = signal.signal(signal.SIGALRM, stop)
    left = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *left)
        signal.signal(signal.SIGALRM, before)


class _Bounded(io.BufferedIOBase):
    """What a gzip holds, of which no more than `limits.decoded_mib` is ever unpacked."""

    def __init__(self, packed: IO[bytes], door: Door) -> None:
        self._packed, self._stream, self._door = packed, gzip.GzipFile(fileobj=packed), door

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET:
            raise io.UnsupportedOperation("only from the start")
        self._door.check_bytes(offset, "holds something at an offset")
        return self._stream.seek(offset)

    def read(self, size: int | None = -1) -> bytes:
        room = (self._door.limits.decoded_mib << 20) - self.tell() + 1
        content = self._stream.read(room if size is None or size < 0 else min(size, room))
        self._door.check_bytes(self.tell(), "unpacks to a content")
        return content

    def close(self) -> None:
        self._stream.close()
        self._packed.close()
        super().close()


def _unreadable(error: OSError) -> None:
    raise UserError(f"{shown(str(error.filename))} cannot be read ({error.strerror}).")


def _outside(real: str, top: str) -> bool:
    """Tell whether a resolved path is neither a resolved folder nor below it."""
    return real != top and not real.startswith(top + os.sep)


def _leads_out(name: str, root: Path, *, link: bool = False) -> UserError:
    what = "is, or lies behind, a link that leads" if link else "leads"
    return UserError(f"'{shown(name)}' {what} out of {root}: only paths below it are read.")
