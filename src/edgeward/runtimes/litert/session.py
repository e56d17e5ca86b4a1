"""LiteRT on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.core.errors import UserError, one_line
from edgeward.runtimes.agent import AgentError
from edgeward.runtimes.base import Session
from edgeward.runtimes.graph import noted
from edgeward.runtimes.litert.agent import Engine


class LiteRtSession(Session):
    """A file of one image."""

    engine = ("litert", version("ai-edge-litert"))

    def __init__(self, path: Path, threads: int, fused: bool) -> None:
        engine, options = Engine({}), dict[str, Any]()
        if not fused:
            kind = engine.kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            options["experimental_op_resolver_type"] = kind
        self._path, self._session = path, engine.open(str(path), threads, 1, **options)
        self.shape = tuple(self._session.inputs[0][2][1:])

    def run(self, images: np.ndarray) -> np.ndarray:
        """As of every session; one image after the other."""
        found = []
        for image in images:
            self._session.bind({"image": np.ascontiguousarray(image[None])})()
            found.append(self._session.outputs()[0])
        return np.concatenate(found)

    def metadata(self) -> Mapping[str, str]:
        return noted(self._path).metadata


def open_session(path: Path, threads: int, fused: bool) -> LiteRtSession:
    """Open a file, with XNNPACK if `fused`, or with the engine's own kernels.

    Raises
    ------
    UserError
        If LiteRT cannot open it.
    """
    try:
        return LiteRtSession(path, threads, fused)
    except AgentError as error:
        raise UserError(f"LiteRT cannot open {path}: {one_line(error)}") from error
