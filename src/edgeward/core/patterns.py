"""Regular expressions of a user's: found in time that grows with the text only (RE2), never by backtracking."""

from __future__ import annotations

import re
from typing import Any

from edgeward.core.errors import UserError

_CLASSES = re.compile(r"\\[wWdDsSbB]")
_LONGEST = 1000  # characters of an expression


def compiled(pattern: str, key: str, *, groups: int = 0) -> Any:
    """Compile an expression in RE2's syntax, https://github.com/google/re2/wiki/Syntax.

    Parameters
    ----------
    key : dotted config key, for the message. groups : brackets that it needs.

    Returns
    -------
    What `re.compile` gives, as far as searching goes.

    Raises
    ------
    UserError
        If it is no expression, has too few brackets, or asks for what only backtracking finds (look-around, references).
    """
    import re2  # a moment to load, and seldom needed

    short = pattern if len(pattern) <= 100 else f"{pattern[:100]} .."
    if len(pattern) > _LONGEST:
        raise UserError(f"{key} '{short}' is longer than {_LONGEST} characters.")
    quiet = re2.Options()
    quiet.log_errors = False
    try:
        found = re2.compile(pattern, quiet)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error
        raise UserError(
            f"{key} '{short}': {reason}. Expressions are RE2's: without look-around and references."
        ) from error
    if found.groups < groups:
        raise UserError(f"{key} '{short}' has no bracket to take as group.")
    return found


def misread(pattern: str, text: str) -> bool:
    """Return whether an expression would misread a text: RE2's \\w, \\d, \\s and \\b know ASCII only."""
    return not text.isascii() and _CLASSES.search(pattern) is not None
