"""LiteRT on this machine."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgeward.core.errors import UserError, one_line
from edgeward.runtimes.agent import AgentError
from edgeward.runtimes.litert.agent import Engine
from edgeward.runtimes.session import OneImage


class LiteRtSession(OneImage):
    """A file of one image."""

    engine = ("litert", version("ai-edge-litert"))


def open_session(path: Path, threads: int, fused: bool) -> LiteRtSession:
    """Open a file, with XNNPACK if `fused`, or with the engine's own kernels.

    Raises
    ------
    UserError
        If LiteRT cannot open it.
    """
    try:
        engine, options = Engine({}), dict[str, Any]()
        if not fused:
            kind = engine.kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            options["experimental_op_resolver_type"] = kind
        return LiteRtSession(path, engine.open(str(path), threads, 1, **options))
    except AgentError as error:
        raise UserError(f"LiteRT cannot open {path}: {one_line(error)}") from error
