"""Run ``model.onnx`` in onnxruntime over a split, and check that model and data belong together."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from edgeward.core.errors import UserError
from edgeward.core.io import digest
from edgeward.data.store import Prepared, to_input

log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 10.0


def open_session(model: Path, threads: int) -> ort.InferenceSession:
    """Open a model on the CPU with `threads` intra-op threads."""
    if not Path(model).is_file():
        raise UserError(f"{model} is missing; the stage export writes it.")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common base class for its load errors
        raise UserError(f"onnxruntime cannot open {model}: {error}") from error


def read_metadata(session: ort.InferenceSession, model: Path) -> dict[str, Any]:
    """Return the metadata properties of a model, each decoded from JSON.

    Raises
    ------
    UserError
        If one that the assessment needs is missing or is not JSON.
    """
    raw = session.get_modelmeta().custom_metadata_map
    needed = ("classes", "data", "data_sha256", "image_size", "logit_shift", "task")
    missing = [key for key in needed if key not in raw]
    if missing:
        raise UserError(f"{model} lacks the metadata {', '.join(missing)}; export it again.")
    out: dict[str, Any] = {}
    for key in needed:
        try:
            out[key] = json.loads(raw[key])
        except json.JSONDecodeError as error:
            raise UserError(f"{model}: metadata {key} is not JSON ({raw[key][:60]!r}).") from error
    return out


def check_fit(meta: dict[str, Any], data: Prepared, model: Path) -> np.ndarray:
    """Check that the model was made from this prepared data; return its logit shift, float64 (n_labels,).

    Raises
    ------
    UserError
        Naming the first property in which model and data differ.
    """
    again = "train and export again, or assess with the data that the model was made from"
    facts = [
        ("task", meta["task"], data.task),
        ("classes", meta["classes"], data.classes),
        ("data", meta["data"], data.card["name"]),
        ("data_sha256", meta["data_sha256"], digest(data.card["hashes"])),
    ]
    if data.spatial_dims == 2:  # volumes are taken in windows, of whatever size the model has
        size = meta["image_size"]
        sizes = tuple(size) if isinstance(size, list) else (size, size)
        facts.append(("image_size", sizes, data.images.shape[1:3]))
    for what, theirs, ours in facts:
        if theirs != ours:
            raise UserError(
                f"{model} and {data.root} do not belong together: {what} is {theirs} in the model and "
                f"{ours} in the data; {again}."
            )
    shift = np.asarray(meta["logit_shift"], dtype=np.float64)
    if shift.shape != (data.n_labels,) or not np.isfinite(shift).all():
        raise UserError(
            f"{model}: logit_shift is {meta['logit_shift']}; needed: {data.n_labels} finite numbers."
        )
    return shift


def predict(
    session: ort.InferenceSession, data: Prepared, indices: np.ndarray, batch_size: int, name: str
) -> np.ndarray:
    """Return the logits of some images, in the order given.

    Parameters
    ----------
    session : from `open_session`; input float32 (b, c, h, w) of 0-255, output float32 (b, classes).
    data : the images stay on disk; a batch is read at a time.
    indices : int, shape (n,).
    batch_size : images per call.
    name : of the split, for messages.

    Returns
    -------
    float32, shape (n, classes).
    """
    if not len(indices):
        raise UserError(
            f"{data.root}: the split '{name}' is empty; change data.split and prepare again."
        )
    feed = session.get_inputs()[0].name
    out = np.empty((len(indices), len(data.classes)), dtype=np.float32)
    started = said = time.monotonic()
    for start in range(0, len(indices), batch_size):
        rows = indices[start : start + batch_size]
        logits = session.run(None, {feed: to_input(data.images[rows])})[0]
        if logits.shape != (len(rows), out.shape[1]):
            raise UserError(
                f"The model gives output of shape {logits.shape} for {len(rows)} images; needed: "
                f"({len(rows)}, {out.shape[1]})."
            )
        out[start : start + len(rows)] = logits
        if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            log.info("%s: %d of %d images", name, start + len(rows), len(indices))
    log.info("%s: %d images in %.1f s", name, len(indices), time.monotonic() - started)
    return out
