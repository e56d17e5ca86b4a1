"""A shipped file, opened on this machine."""

from __future__ import annotations

from pathlib import Path

from edgeward.core.errors import UserError
from edgeward.core.plugins import load
from edgeward.runtimes.base import REFERENCE, Session
from edgeward.runtimes.base import runtime as facts


def open_session(
    model: Path, threads: int, *, fused: bool = True, runtime: str = REFERENCE
) -> Session:
    """Open a file in the engine that it was written for.

    Parameters
    ----------
    threads : of the engine.
    fused : whether with the engine's optimisations, as on a device; or as the file says it, operator by operator.
    runtime : name of one that takes such files.

    Raises
    ------
    UserError
        If there is no such file, or the engine cannot open it.
    """
    if not Path(model).is_file():
        raise UserError(f"{model} is missing; the stage export writes it.")
    where = "config/export/ (key 'runtime')"
    part = load("edgeward.runtimes", facts(runtime, where).file_of, "session", where)
    opened: Session = part.open_session(model, threads, fused)
    return opened
