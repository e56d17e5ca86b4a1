"""Run the shipped file over a split, and check that model and data belong together."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.core.io import digest
from edgeward.core.windows import sliding
from edgeward.data.store import Prepared, Split, to_input
from edgeward.records.base import OLDER_TASKS
from edgeward.runtimes.base import Session
from edgeward.safety.config import StudyConfig
from edgeward.tasks.base import Task

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
        ("task", OLDER_TASKS.get(meta["task"], meta["task"]), data.task),
        ("classes", meta["classes"], data.classes),
        ("data", meta["data"], data.card.name),
        ("data_sha256", meta["data_sha256"], digest(data.card.hashes)),
    ]
    if data.volumes is None:  # others are taken in windows, of whatever size the model has
        size = meta["image_size"]
        sizes = tuple(size) if isinstance(size, list) else (size, size)
        facts.append(("image_size", sizes, data.images.shape[1:-1]))
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
    session: Session,
    data: Prepared,
    split: Split,
    task: Task,
    cfg: StudyConfig,
    some: np.ndarray | None = None,
    change: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the index of every case of a split and its logits, float32, a batch in memory at a time.

    Cases of one shape are taken whole, volumes that differ by overlapping windows of the model's input size.

    Parameters
    ----------
    some : indices of the cases that are taken instead of all of the split.
    change : of images in the plane, uint8 (b, h, w, c), and their indices, before they are predicted.

    Raises
    ------
    UserError
        If the split is empty, the output has another shape than the task's, or a logit is not finite.
    """
    indices = data.indices(split) if some is None else some
    if not len(indices):
        raise UserError(
            f"{data.root}: the split '{split}' is empty; change data.split and prepare again."
        )

    def forward(images: np.ndarray) -> np.ndarray:
        logits = session.run(images)
        expected = (len(images), data.n_labels, *(images.shape[2:] if task.dense else ()))
        if logits.shape != expected:
            raise UserError(f"The model gives output of shape {logits.shape}; needed: {expected}.")
        return logits

    def cases() -> Iterator[tuple[int, np.ndarray]]:
        if data.volumes is None:
            for first in range(0, len(indices), cfg.batch_size):
                part = indices[first : first + cfg.batch_size]
                images = data.images[part] if change is None else change(data.images[part], part)
                yield from zip(part.tolist(), forward(to_input(images)), strict=True)
            return
        size = session.shape[1:]
        for index in indices.tolist():
            yield index, sliding(forward, data.case(index)[0], size, cfg.overlap, cfg.windows)

    started = said = time.monotonic()
    for n, (index, logits) in enumerate(cases(), start=1):
        if not np.isfinite(logits).all():
            raise UserError(
                f"The model gives NaN or infinite logits for case {index} ({split}); look at the logs of "
                "train, compress and export."
            )
        yield index, logits
        if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            log.info("%s: %d of %d cases", split, n, len(indices))
    log.info("%s: %d cases in %.1f s", split, len(indices), time.monotonic() - started)
