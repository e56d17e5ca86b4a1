"""The ``compress`` stage: a checkpoint and a recipe in, one program out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram

from edgeward.compression.config import RecipeConfig
from edgeward.compression.constraint.acceptance import accept_on_validation
from edgeward.compression.cost import macs
from edgeward.compression.step import Step
from edgeward.compression.workpiece import Workpiece
from edgeward.models.checkpoint import load_checkpoint
from edgeward.models.program import export_program, save_program
from edgeward.records.recipe import Recipe
from edgeward.runtimes.base import Bench

logger = logging.getLogger(__name__)


def run(
    recipe: RecipeConfig,
    *,
    seed: int,
    checkpoint: Path,
    prepared: Path,
    out: Path,
    work: Path,
    threads: int,
    live: Callable[[int, dict[str, float]], None] | None = None,
    teachers: Mapping[str, Path] | None = None,
    bench: Bench | None = None,
) -> dict[str, float]:
    """Apply `recipe` to a trained model; write ``model.pt2`` and ``recipe.json`` to `out`.

    Parameters
    ----------
    seed : of the calibration order and of training.
    checkpoint : ``model.pt``. prepared : folder of the data; read by steps that need images.
    work : folder of resumable state: a killed run goes on from its last epoch; the caller removes it.
    live : takes (step, metrics) during training.
    teachers : ``model.pt`` of every model that the recipe distils from, by name.
    bench : the device that the recipe names; None: it names none.

    Returns
    -------
    ``parameters, program_bytes, compress_s`` and what the steps add: ``calibration_images,
    quantized_parameter_share``, ``accepted`` (0 or 1) where a step keeps a safety constraint, after training the metrics of its last epoch.
    """
    started = time.perf_counter()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    module, meta = load_checkpoint(checkpoint)
    piece = Workpiece(
        *(module, meta, prepared, seed, threads, work, live),
        teachers=dict(teachers or {}),
        bench=bench,
    )
    piece.record |= {
        "recipe": recipe.name,
        "steps": [step.model_dump(mode="json") for step in recipe.steps],
        "precision": "fp32",
        "backend": "torch",
        "versions": {"torch": torch.__version__},
        "scheme": {"activation": "float32", "weight": "float32"},
        "calibration": {"n": 0, "sha256": None},
        "keep_float": [],
        "quantized_parameter_share": 0.0,
        "effects": [],
    }
    for number, step in enumerate(recipe.steps):
        logger.info("%s: %s", recipe.name, type(step).__name__)
        _apply(step, piece, work / str(number))
    parameters = piece.parameters
    thresholds = piece.thresholds
    if piece.meta.thresholds is not None:  # what takes them off imports the quantizers
        from edgeward.compression.alignment import without_thresholds

        without_thresholds(piece)
    program = piece.program or export_program(piece.module, piece.example)
    _accept(recipe, piece, program, thresholds)
    save_program(out / "model.pt2", program)
    size = (out / "model.pt2").stat().st_size
    Recipe(
        **piece.record,
        parameters=parameters,
        program_bytes=size,
        meta=piece.meta,
        found=piece.found,
    ).write(out / "recipe.json")
    return {
        "quantized_parameter_share": 0.0,
        "calibration_images": 0.0,
        **piece.metrics,
        "parameters": float(parameters),
        "program_bytes": float(size),
        "compress_s": time.perf_counter() - started,
    }


def _accept(
    recipe: RecipeConfig, piece: Workpiece, program: ExportedProgram, thresholds: np.ndarray
) -> None:
    """Test what ships against the last safety constraint in the recipe, and record the outcome.

    Parameters
    ----------
    thresholds : that were taken off the logits of what ships.
    """
    limits = [step.limits for step in recipe.steps if step.limits is not None]
    if not limits:
        return
    reference: Callable[[torch.Tensor], torch.Tensor] = piece.uncompressed
    if thresholds.any():
        from edgeward.compression.alignment import Shifted

        reference = Shifted(piece.uncompressed, torch.from_numpy(-thresholds).float())
    found = accept_on_validation(
        program.module(),
        reference,
        piece.data,
        piece.meta.logit_shift,
        limits[-1].acceptance,
        piece.seed,
    )
    piece.found["acceptance"] = found
    piece.metrics["accepted"] = float(found["accepted"])


def _apply(step: Step, piece: Workpiece, work: Path) -> None:
    """Let `step` work on the piece in a folder of its own; record what it changed."""
    work.mkdir(parents=True, exist_ok=True)
    piece.work = work
    before = _size(piece)
    piece.effect = {}
    step.apply(piece)
    after = _size(piece)
    piece.record["effects"].append(
        {
            "step": step.model_dump()["step"],
            **{key: [before[key], after[key]] for key in before},
            **piece.effect,
        }
    )
    piece.metrics["macs"] = float(after["macs"])


def _size(piece: Workpiece) -> dict[str, int]:
    return {
        "parameters": piece.parameters,
        "macs": macs(piece.module, piece.example),
    }
