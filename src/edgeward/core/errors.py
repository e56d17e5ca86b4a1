"""Errors meant for the person at the terminal: one message, no traceback needed."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

LONGEST = 120  # characters of a name that a message repeats


# Of an OSError: no room, or no right to write.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class UserError(Exception):
    """Something the user can put right; the message says what, where and how."""


def one_line(error: BaseException) -> str:
    """Return what an exception says on one line, "" if it says nothing."""
    return " ".join(str(error).split())


def nearest(word: str, allowed: Iterable[str]) -> str | None:
    """Return the entry of `allowed` that `word` most likely stands for, or None."""
    hits = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return hits[0] if hits else None


def did_you_mean(word: str, allowed: Iterable[str], prefix: str = "") -> str:
    """Return the hint at the entry of `allowed` nearest to `word`, to follow a sentence, or ""."""
    guess = nearest(word, allowed)
    return f" Did you mean '{prefix}{guess}'?" if guess else ""


def unknown(kind: str, value: str, allowed: Iterable[str], where: str) -> UserError:
    """Build the error for a name that is not one of a known set.

    Parameters
    ----------
    kind : what the name stands for, e.g. ``"data set"``.
    value : the name as given.
    allowed : the names that exist.
    where : file or option in which to change it.
    """
    names = sorted(allowed)
    value = value if len(value) <= LONGEST else f"{value[:LONGEST]}…"
    hint = did_you_mean(value, names)
    return UserError(
        f"{kind} '{value}' is unknown.{hint} Known: {', '.join(names) or 'none'}. Change it in {where}."
    )
