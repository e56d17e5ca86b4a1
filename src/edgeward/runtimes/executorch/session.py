"""ExecuTorch on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

from edgeward.core.errors import UserError, one_line
from edgeward.runtimes.agent import AgentError
from edgeward.runtimes.base import Session
from edgeward.runtimes.executorch.agent import Engine
from edgeward.runtimes.graph import noted


class ExecutorchSession(Session):
    """A file of one image."""

    engine = ("executorch", version("executorch"))

    def __init__(self, path: Path, threads: int) -> None:
        self._path, self._session = path, Engine({}).open(str(path), threads, 1)
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


def open_session(path: Path, threads: int, fused: bool) -> ExecutorchSession:  # noqa: ARG001
    """Open a file; what is fused was decided when it was written, so `fused` changes nothing.

    Raises
    ------
    UserError
        If ExecuTorch cannot open it.
    """
    try:
        return ExecutorchSession(path, threads)
    except AgentError as error:
        raise UserError(f"ExecuTorch cannot open {path}: {one_line(error)}") from error
