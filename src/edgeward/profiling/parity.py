"""Does the engine on the device compute what the reference engine computes here?

A time is worth nothing if the answer is wrong: a driver may drop precision, an integer kernel may
saturate. So before it is timed, a session answers a few seeded images, and its logits are compared
with those of onnxruntime on the CPU of this machine, one thread, no graph optimisation.

fp32 differs by rounding: the largest error has a limit. INT8 differs by whole levels where two
engines round apart, and a network may amplify that; how much is measured (`sensitivity`). So the mean
error has a limit, and images that are clearly decided must be decided alike (as in
`edgeward.export.parity`, which judges the file itself, on real images).
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.runtimes.session import open_session
from edgeward.runtimes.tolerance import DeviceParityConfig


def images(
    count: int, shape: tuple[int, ...], input_range: tuple[int, int], seed: int
) -> np.ndarray:
    """Return seeded synthetic images or volumes, uint8 (count, *shape); `shape` is (c, *spatial).

    Coarse colour fields of varied brightness and contrast under fine noise: unlike white noise,
    they spread the logits, and so show an error of the engine.
    """
    rng = np.random.default_rng(seed)
    channels, *sides = shape
    low, high = input_range
    made = np.empty((count, *shape))
    for i in range(count):
        cells = int(rng.integers(2, 9))
        field = rng.normal(0, 1, (channels, *[cells] * len(sides)))
        for axis, side in reversed(list(enumerate(sides, start=1))):
            at = np.linspace(0, cells - 1, side)
            cell = at.astype(int).clip(max=cells - 2)
            part = (at - cell).reshape(-1, *[1] * (len(sides) - axis))
            field = field.take(cell, axis) * (1 - part) + field.take(cell + 1, axis) * part
        field = rng.uniform(0.05, 0.35) * field
        field += rng.uniform(0.25, 0.75, (channels, *[1] * len(sides)))
        made[i] = field + rng.normal(0, 0.03, shape)
    return np.clip(low + made * (high - low), low, high).round().astype(np.uint8)


def encode(array: np.ndarray) -> dict[str, Any]:
    """Return an image array as it travels in a request."""
    return {"shape": list(array.shape), "uint8": base64.b64encode(array.tobytes()).decode()}


def decode(encoded: dict[str, Any]) -> np.ndarray:
    """Return the logits that the agent sent, float64."""
    raw = np.frombuffer(base64.b64decode(encoded["float32"]), dtype="<f4")
    return raw.reshape(encoded["shape"]).astype(np.float64)


def reference_logits(model: Path, array: np.ndarray) -> np.ndarray:
    """Return the logits of the reference engine, float64 (n, classes, ..), one image at a time.

    Parameters
    ----------
    array : images (n, c, *spatial) of any type, in the values that the model takes.

    Raises
    ------
    UserError
        If the reference engine cannot load or run the model.
    """
    session = open_session(model, 1, fused=False)
    try:
        parts = [session.run(x[None].astype(np.float32)) for x in array]
    except Exception as error:  # engines have a dozen exception types of their own
        raise UserError(f"{model}: the reference engine cannot run the model: {error}") from error
    return np.concatenate(parts).astype(np.float64)


def sensitivity(
    model: Path, array: np.ndarray, reference: np.ndarray, perturbation: float
) -> float:
    """Return by how much the reference engine's own logits move when the images hardly change.

    Parameters
    ----------
    array, reference : images (n, c, *spatial) and the logits of `reference_logits` for them.
    perturbation : every pixel changes by a seeded uniform value of at most so many grey levels.

    Returns
    -------
    Mean |difference| of the logits.
    """
    noise = np.random.default_rng(0).uniform(-perturbation, perturbation, array.shape)
    return float(np.abs(reference_logits(model, array + noise) - reference).mean())


def compare(
    reference: np.ndarray,
    found: np.ndarray,
    precision: str,
    cfg: DeviceParityConfig,
    moved: float | None = None,
) -> dict[str, Any]:
    """Return how the logits of the device lie to the reference, both (n, classes, ..).

    Of segmentation networks every pixel or voxel counts as an image.

    Parameters
    ----------
    moved : the `sensitivity` of an INT8 model.

    Returns
    -------
    ``n, spread`` (standard deviation of the reference), ``sensitivity`` (`moved`), ``max_abs, mean_abs,
    agreement`` (share of equal argmax), ``limit`` (of max_abs, for INT8 of mean_abs), ``decided {n,
    agreement}`` (INT8; else None), ``passed, reasons``.
    """
    result: dict[str, Any] = {
        "n": len(reference),
        "spread": float(reference.std()),
        "sensitivity": moved,
        "max_abs": None,
        "mean_abs": None,
        "agreement": None,
        "limit": None,
        "decided": None,
    }
    reasons: list[str] = []
    if found.shape != reference.shape or not np.isfinite(found).all():
        reasons.append(
            "the engine's logits have another shape than the reference's or are not finite"
        )
        return {**result, "passed": False, "reasons": reasons}
    error = np.abs(found - reference)
    same = found.argmax(1) == reference.argmax(1)
    result |= {
        "max_abs": float(error.max()),
        "mean_abs": float(error.mean()),
        "agreement": float(same.mean()),
    }
    if precision == "int8":
        limit = cfg.int8.limit(result["spread"], moved or 0.0)
        n, share = cfg.int8.decided(reference, found, limit)
        result["decided"] = {"n": n, "agreement": share}
        if result["mean_abs"] > limit:
            reasons.append(
                f"the engine's mean logit error is {result['mean_abs']:.3g}, {limit:.3g} allowed "
                f"(logit spread {result['spread']:.3g}); do not use this engine for this model, "
                "or see parity.int8"
            )
        if share is not None and share < cfg.int8.decided_agreement:
            reasons.append(
                f"the engine decides {share:.2%} of {n} clear images as the reference "
                f"does, {cfg.int8.decided_agreement:.2%} asked; see parity.int8.decided_agreement"
            )
    else:
        limit = cfg.fp32.limit(result["spread"])
        if result["max_abs"] > limit:
            reasons.append(
                f"the engine's largest logit error is {result['max_abs']:.3g}, {limit:.3g} allowed "
                f"(logit spread {result['spread']:.3g}); does it compute in lower precision? see "
                "parity.fp32"
            )
    result["limit"] = limit
    return {**result, "passed": not reasons, "reasons": reasons}
