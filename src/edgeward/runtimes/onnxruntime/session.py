"""onnxruntime's CPU provider on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from edgeward.core.errors import UserError
from edgeward.runtimes.base import Session


class OnnxSession(Session):
    """An ONNX file with one input and one output."""

    engine = ("onnxruntime", onnxruntime.__version__)

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        image = session.get_inputs()[0]
        self._name = image.name
        self.shape = tuple(image.shape[1:])
        batch = image.shape[0]
        self._batch = batch if isinstance(batch, int) else None

    def run(self, images: np.ndarray, output: str | None = None) -> np.ndarray:
        """As of every session; a file of a fixed batch gets the images in such batches, the last one filled up.

        Parameters
        ----------
        output : name of the one that is returned; None: the first.
        """
        names = None if output is None else [output]
        if self._batch in (None, len(images)):
            whole: np.ndarray = self._session.run(names, {self._name: images})[0]
            return whole
        parts = []
        for start in range(0, len(images), self._batch):
            part = images[start : start + self._batch]
            full = np.resize(part, (self._batch, *part.shape[1:]))
            parts.append(self._session.run(names, {self._name: full})[0][: len(part)])
        return np.concatenate(parts)

    def metadata(self) -> Mapping[str, str]:
        found: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        return found


def open_session(path: Path, threads: int, fused: bool) -> OnnxSession:
    """Open a file on the CPU.

    Parameters
    ----------
    threads : of the intra-op pool.
    fused : whether with all graph optimisations or with none.

    Raises
    ------
    UserError
        If onnxruntime cannot open it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if fused else levels.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime has no common base class for its load errors
        raise UserError(f"onnxruntime cannot open {path}: {error}") from error
    return OnnxSession(session)
