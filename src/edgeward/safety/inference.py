"""Run the shipped file over a split, and check that model and data belong together."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.core.io import digest
from edgeward.data.store import Prepared, to_input
from edgeward.runtimes.base import Session

log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 10.0


def read_metadata(session: Session, model: Path) -> dict[str, Any]:
    """Return the metadata properties of a model, each decoded from JSON.

    Raises
    ------
    UserError
        If one that the assessment needs is missing or is not JSON.
    """
    raw = session.metadata()
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
    session: Session, data: Prepared, indices: np.ndarray, batch_size: int, name: str
) -> np.ndarray:
    """Return the logits of some images, in the order given.

    Parameters
    ----------
    session : input float32 (b, c, h, w) of 0-255, output float32 (b, classes).
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
    out = np.empty((len(indices), len(data.classes)), dtype=np.float32)
    started = said = time.monotonic()
    for start in range(0, len(indices), batch_size):
        rows = indices[start : start + batch_size]
        logits = session.run(to_input(data.images[rows]))
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
