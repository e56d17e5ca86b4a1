"""Stage ``adopt``: a finished file, whatever made it, in the place of what compress and export write."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeward.core.errors import UserError
from edgeward.core.io import atomic, sha256
from edgeward.data.store import Prepared, open_prepared, to_input
from edgeward.export import parity
from edgeward.export.metadata import metadata
from edgeward.export.taken import examine
from edgeward.models.config import ModelConfig
from edgeward.records.recipe import Calibrated, ModelMeta, Recipe
from edgeward.runtimes.base import ExportConfig
from edgeward.runtimes.onnxruntime.given import Given, open_given
from edgeward.runtimes.onnxruntime.graph import quantized_share, read_graph

log = logging.getLogger(__name__)


def run(
    model: ModelConfig,
    recipe: str,
    cfg: ExportConfig,
    *,
    seed: int,
    file: Path,
    prepared: Path,
    built: Path,
    out: Path,
    threads: int,
) -> dict[str, float]:
    """Write ``recipe.json`` into `built`, ``model.onnx`` and ``parity.json`` into `out`.

    Parameters
    ----------
    model : what the file takes. recipe : under which name it is judged. file : the file.
    prepared : folder of the prepared data; the file that is written is compared with the given one on validation images.

    Returns
    -------
    Figures of the comparison, and ``correct`` (share of right decisions, at most so many validation images of each class).

    Raises
    ------
    UserError
        If the file is none, does not fit the data, or computes something else once it takes images as they are stored.
    """
    data = open_prepared(prepared)
    given = open_given(file, model.takes)
    labels = data.classes if data.n_labels == len(data.classes) else ["background", *data.classes]
    target = out / "model.onnx"
    target.unlink(missing_ok=True)
    some = to_input(data.images[parity.pick(data, 2)])
    taken = None if model.dense else examine(given, data, threads)
    with atomic(target) as temporary:
        given.write(temporary, {}, some, labels, threads)
        made = _recipe(given, temporary, model, recipe, data, labels, seed)
        given.write(temporary, metadata(made, data.card), some, labels, threads)
        forward = given.forward(labels, threads)
        result = parity.check(temporary, forward, data, made, cfg.parity, cfg.runtime, threads)
        result = result.model_copy(update={"taken": taken})
        result.write(out / "parity.json")
        if not result.passed or result.onnx_vs_torch is None:
            raise UserError(
                f"{file} computes something else once it takes images as they are stored: {'; '.join(result.failures)}. "
                "Tolerances: config/export/."
            )
    made.write(built / "recipe.json")
    for doubt in taken.doubts if taken else ():
        log.warning("%s: %s", file, doubt)
    found = result.onnx_vs_torch
    return {
        "logit_error_max": found.max_abs,
        "logit_error_mean": found.mean_abs,
        "logit_spread": result.spread,
        "agreement": found.agreement,
        "file_mb": target.stat().st_size / 1e6,
        **({"correct": taken.correct, "doubts": float(len(taken.doubts))} if taken else {}),
    }


def _recipe(
    given: Given,
    written: Path,
    model: ModelConfig,
    recipe: str,
    data: Prepared,
    labels: Sequence[str],
    seed: int,
) -> Recipe:
    """Return what is known of how the file was made."""
    facts = read_graph(written, given.batch or 1)
    channels = facts.input_shape[1]
    scale, bias = given.affine(channels)
    producer = " ".join([given.model.producer_name, given.model.producer_version]).strip()
    meta = ModelMeta(
        model=model.model_dump(mode="json"),
        task=data.task,
        spatial_dims=data.spatial_dims,
        num_classes=len(data.classes),
        n_labels=len(labels),
        in_chans=channels,
        image_size=facts.input_shape[2:],
        mean=(-bias / scale / 255).tolist(),
        std=(1 / scale / 255).tolist(),
        classes=data.classes,
        logit_shift=np.zeros(len(labels)).tolist(),
        data=data.card.name,
        seed=seed,
    )
    return Recipe(
        recipe=recipe,
        steps=[],
        precision=facts.precision,
        backend=given.model.producer_name or "unknown",
        versions={"producer": producer or "unknown"},
        scheme={},
        calibration=Calibrated(n=0, sha256=None),
        keep_float=[],
        quantized_parameter_share=quantized_share(written),
        effects=[],
        parameters=facts.parameters,
        program_bytes=given.path.stat().st_size,
        meta=meta,
        found={"file": given.path.name, "sha256": sha256(given.path)},
    )
