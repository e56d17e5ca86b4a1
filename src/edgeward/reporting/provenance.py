"""From what, with what and when a report is written."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import edgeward
from edgeward.core.errors import UserError
from edgeward.core.io import digest, sha256
from edgeward.records.provenance import Commit, Provenance

HOME = Path(edgeward.__file__).resolve().parents[2]
CHECKOUT = (HOME / "Snakefile").is_file()
LOCK = HOME / "requirements.lock"


def provenance(sweep: Mapping[str, Any]) -> Provenance:
    """Return what a report that is written now says of its making.

    Parameters
    ----------
    sweep : the slice of the configuration that the report reads.

    Raises
    ------
    UserError
        If SOURCE_DATE_EPOCH is no number of seconds.
    """
    library = commit(HOME) if CHECKOUT else None
    study = None if CHECKOUT and _top(Path.cwd()) == _top(HOME) else commit(Path.cwd())
    return Provenance(
        edgeward=edgeward.__version__,
        date=_date(),
        library=library,
        study=study,
        sweep_sha256=digest(sweep),
        lock_sha256=sha256(LOCK) if CHECKOUT and LOCK.is_file() else None,
        python=platform.python_version(),
        system=platform.platform(),
        packages=_packages(),
    )


def commit(folder: Path) -> Commit | None:
    """Return the commit of the checkout that a folder lies in, or None if it lies in none, or git is not there."""
    head = _git(folder, "rev-parse", "--verify", "HEAD")
    changed = _git(folder, "status", "--porcelain")
    return None if head is None or changed is None else Commit(commit=head, dirty=bool(changed))


def _top(folder: Path) -> str | None:
    return _git(folder, "rev-parse", "--show-toplevel")


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _date() -> str:
    """Return the day, as reproducible builds have it."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        return datetime.now(UTC).date().isoformat()
    try:
        return datetime.fromtimestamp(int(epoch), UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        raise UserError(
            f"SOURCE_DATE_EPOCH={epoch}: must be whole seconds since 1970. Change or unset this variable."
        ) from None


@cache
def _packages() -> dict[str, str]:
    found = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
    return dict(sorted(found.items(), key=lambda entry: entry[0].lower()))
