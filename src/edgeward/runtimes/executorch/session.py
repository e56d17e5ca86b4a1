"""ExecuTorch on this machine."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from edgeward.core.errors import UserError, one_line
from edgeward.runtimes.agent import AgentError
from edgeward.runtimes.executorch.agent import Engine
from edgeward.runtimes.session import OneImage


class ExecutorchSession(OneImage):
    """A file of one image."""

    engine = ("executorch", version("executorch"))


def open_session(path: Path, threads: int, fused: bool) -> ExecutorchSession:  # noqa: ARG001
    """Open a file; what is fused was decided when it was written, so `fused` changes nothing.

    Raises
    ------
    UserError
        If ExecuTorch cannot open it.
    """
    try:
        return ExecutorchSession(path, Engine({}).open(str(path), threads, 1))
    except AgentError as error:
        raise UserError(f"ExecuTorch cannot open {path}: {one_line(error)}") from error
