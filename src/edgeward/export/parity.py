"""Does ``model.onnx`` compute what the PyTorch program computes?

fp32 is simple: the two differ by rounding, so the largest error has a limit.

INT8 is not. Both engines round activations to 256 levels, and where one of them meets a value at
the middle of a level by a rounding error of 1e-7, they part by a whole level; a net can amplify
that. How much is a property of the net, not of its export, so it is measured: the same quantised
program, in PyTorch alone, on the same images changed by less than the rounding of their own pixels
(`sensitivity`). The mean error of the export has to stay below that (or below a share of the logit
spread that does not matter); and images that are clearly decided must be decided alike. A net
whose sensitivity is high is reported as such: that is an alarm about the model.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeward.core.errors import UserError
from edgeward.data.store import Prepared
from edgeward.records.recipe import Recipe
from edgeward.runtimes.session import open_session
from edgeward.runtimes.tolerance import FileParityConfig, margin
from edgeward.tasks.inputs import Read, reader

Logits = np.ndarray


def pick(prepared: Prepared, count: int) -> np.ndarray:
    """Return up to `count` indices spread evenly over the validation split, int64 ascending."""
    indices = prepared.indices("val")
    if not len(indices):
        raise UserError(f"{prepared.root} has no validation images to compare on.")
    places = np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int)
    return indices[places]


def logits_of(
    forward: Callable[[np.ndarray], Logits],
    read: Read,
    indices: np.ndarray,
    batch: int,
    noise: float = 0.0,
) -> Logits:
    """Return the logits of images, float64 (n, n_classes) or (n, n_labels, *spatial).

    Parameters
    ----------
    forward : float32 (b, c, *spatial), 0-255 -> float32 logits.
    read : from indices to such images (`edgeward.tasks.inputs.reader`).
    noise : each pixel is changed by a uniform value in +-noise grey levels, seeded.
    """
    rng = np.random.default_rng(0)
    parts = []
    for start in range(0, len(indices), batch):
        image = read(indices[start : start + batch])
        if noise:
            image = image + rng.uniform(-noise, noise, image.shape).astype(np.float32)
        parts.append(np.asarray(forward(image), dtype=np.float64))
    return np.concatenate(parts)


def torch_forward(program: torch.export.ExportedProgram) -> Callable[[np.ndarray], Logits]:
    """Return the program as a function of arrays."""
    module = program.module()

    def forward(image: np.ndarray) -> Logits:
        with torch.inference_mode():
            return module(torch.from_numpy(image)).numpy()

    return forward


def compare(reference: Logits, other: Logits) -> dict[str, float]:
    """Return how two sets of logits (n, n_classes, ..) of the same images differ.

    Of segmentation networks every pixel or voxel counts as an image.

    ``max_abs, mean_abs, p99_abs`` are in logits; ``agreement`` is the share of equal argmax;
    ``flipped_margin`` is the largest top-2 margin of the reference among images that are decided
    differently (0 if there are none).
    """
    error = np.abs(other - reference)
    flipped = reference.argmax(1) != other.argmax(1)
    return {
        "max_abs": float(error.max()),
        "mean_abs": float(error.mean()),
        "p99_abs": float(np.quantile(error, 0.99)),
        "agreement": float(1 - flipped.mean()),
        "flipped": int(flipped.sum()),
        "flipped_margin": float(margin(reference)[flipped].max(initial=0.0)),
    }


def _check_fp32(result: dict[str, Any], cfg: FileParityConfig) -> list[str]:
    limit = cfg.fp32.limit(result["spread"])
    result["limit"] = {"max_abs": limit}
    found = result["onnx_vs_torch"]["max_abs"]
    if found <= limit:
        return []
    return [
        f"the largest logit error is {found:.3g}, {limit:.3g} allowed (logit spread "
        f"{result['spread']:.3g}); see export.parity.fp32"
    ]


def _check_int8(
    result: dict[str, Any], reference: Logits, fused: Logits, cfg: FileParityConfig
) -> list[str]:
    tolerance, spread = cfg.int8, result["spread"]
    limit = tolerance.limit(spread, result["sensitivity"]["mean_abs"])
    n, agreement = tolerance.decided(reference, fused, limit)
    result["limit"] = {"mean_abs": limit, "decided_margin": tolerance.decided_margin * limit}
    result["decided"] = {"n": n, "agreement": agreement}
    failures = []
    found = result["onnx_vs_torch"]["mean_abs"]
    if found > limit:
        unfused = result["unfused_vs_torch"]["mean_abs"]
        culprit = (
            "an integer kernel of onnxruntime disagrees with the graph (unfused error "
            if unfused <= limit
            else "already the graph without fusion is off (error "
        )
        failures.append(
            f"the mean logit error is {found:.3g}, {limit:.3g} allowed (logit spread {spread:.3g}, "
            f"sensitivity {result['sensitivity']['mean_abs']:.3g}): {culprit}{unfused:.3g}); "
            "see export.parity.int8"
        )
    if agreement is not None and agreement < tolerance.decided_agreement:
        failures.append(
            f"{agreement:.1%} of {n} clearly decided images are decided alike, "
            f"{tolerance.decided_agreement:.1%} asked; see export.parity.int8.decided_agreement"
        )
    return failures


def _check_batches(
    result: dict[str, Any],
    forward: Callable[[np.ndarray], Logits],
    read: Read,
    indices: np.ndarray,
    fused: Logits,
    cfg: FileParityConfig,
) -> list[str]:
    """Run the first images at each batch size and compare with what they gave before."""
    failures = []
    limit = max(result["limit"].values())
    for size in cfg.batch_sizes:
        count = min(size, len(indices))
        chosen = np.resize(indices[:count], size)
        logits = logits_of(forward, read, chosen, size)
        error = float(np.abs(logits - np.resize(fused[:count], logits.shape)).max())
        result["batches"][str(size)] = error
        if not error <= limit:
            failures.append(f"at batch {size} the logits are off by {error:.3g}")
    return failures


def check(
    path: Path,
    program: torch.export.ExportedProgram,
    prepared: Prepared,
    recipe: Recipe,
    cfg: FileParityConfig,
    runtime: str,
    threads: int,
) -> dict[str, Any]:
    """Compare a file with its program on real validation images.

    Parameters
    ----------
    path : the file. runtime : name of the one that it is written for.
    recipe : its precision says which tolerances apply, its meta what the model takes.
    threads : of the engine.

    Returns
    -------
    All figures, with ``passed`` and ``failures`` (sentences with the figures); comparisons are as
    in `compare`. ``batches`` is the largest difference of the logits at each batch size.
    """
    precision, meta = recipe.precision, recipe.meta
    dense = bool(meta.model["dense"])
    batch = cfg.dense_batch if dense else cfg.batch
    indices = pick(prepared, cfg.dense_images if dense else cfg.images)
    read = reader(prepared, meta, seed=0)
    torch_run = torch_forward(program)
    session = open_session(path, threads, runtime=runtime)
    onnx_run = session.run
    reference = logits_of(torch_run, read, indices, batch)
    fused = logits_of(onnx_run, read, indices, batch)
    result: dict[str, Any] = {
        "precision": precision,
        "n": len(indices),
        session.engine[0]: session.engine[1],
        "spread": float(reference.std()),
        "median_margin": float(np.median(margin(reference))),
        "onnx_vs_torch": {},
        "batches": {},
        "tolerance": cfg.model_dump(),
    }
    failures = []
    if not (np.isfinite(reference).all() and np.isfinite(fused).all()):
        failures.append("there are logits that are not finite: the model itself is broken")
    else:
        result["onnx_vs_torch"] = compare(reference, fused)
        if precision == "int8":
            noise = cfg.int8.perturbation
            shaken = logits_of(torch_run, read, indices, batch, noise)
            result["sensitivity"] = compare(reference, shaken)
            plain = open_session(path, threads, fused=False, runtime=runtime)
            unfused = logits_of(plain.run, read, indices, batch)
            result["unfused_vs_torch"] = compare(reference, unfused)
            result["fused_vs_unfused"] = compare(unfused, fused)
            failures += _check_int8(result, reference, fused, cfg)
        else:
            failures += _check_fp32(result, cfg)
        failures += _check_batches(result, onnx_run, read, indices, fused, cfg)
    return {"passed": not failures, "failures": failures, **result}
