"""Errors are told apart by what they name: keys, values and files, not by their prose."""

from __future__ import annotations

import re


def naming(*parts: object) -> str:
    """Return a pattern for ``match=`` of a message that holds every part, in any order, as a whole word."""
    found = []
    for part in map(str, parts):
        start = r"(?<![\w.])" if re.match(r"\w", part) else ""
        end = r"(?!\w|\.\w)" if re.search(r"\w$", part) else ""
        found.append(rf"(?=[\s\S]*{start}{re.escape(part)}{end})")
    return rf"\A{''.join(found)}"
