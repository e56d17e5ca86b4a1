"""A shipped file, opened on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.core.plugins import load
from edgeward.runtimes.base import REFERENCE, Session
from edgeward.runtimes.base import runtime as facts
from edgeward.runtimes.graph import noted


class OneImage(Session):
    """A file of one image, run as on a device.

    Parameters
    ----------
    opened : what the engine's agent opened, see `edgeward.runtimes.agent`.
    """

    def __init__(self, path: Path, opened: Any) -> None:
        self._path, self._opened = path, opened
        self.shape = tuple(opened.inputs[0][2][1:])

    def run(self, images: np.ndarray) -> np.ndarray:
        """As of every session; one image after the other."""
        found = []
        for image in images:
            self._opened.bind({"image": np.ascontiguousarray(image[None])})()
            found.append(self._opened.outputs()[0])
        return np.concatenate(found)

    def metadata(self) -> Mapping[str, str]:
        return noted(self._path).metadata


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
