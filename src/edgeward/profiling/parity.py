"""Does the engine on the device compute what the reference engine computes here?

A time is worth nothing if the answer is wrong: a driver may drop precision, an integer kernel may saturate. So before it
is timed, a session answers a few seeded images, and its logits are compared with those of the reference engine on this
machine, one thread, no graph optimisation. How far they may differ: `edgeward.runtimes.tolerance`.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.records.parts import Decided, Parity
from edgeward.runtimes.parity import compare as agreement
from edgeward.runtimes.parity import judge, run_all
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


def reference_logits(model: Path, array: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """Return the logits of the reference engine, float64 (n, classes, ..), one image at a time.

    Parameters
    ----------
    array : images (n, c, *spatial) of any type, in the values that the model takes.
    noise : see `edgeward.runtimes.parity.run_all`.

    Raises
    ------
    UserError
        If the reference engine cannot load or run the model.
    """
    session = open_session(model, 1, fused=False)
    try:
        return run_all(session.run, (image[None].astype(np.float32) for image in array), noise)
    except Exception as error:  # engines have a dozen exception types of their own
        raise UserError(f"{model}: the reference engine cannot run the model: {error}") from error


def sensitivity(
    model: Path,
    array: np.ndarray,
    reference: np.ndarray,
    perturbation: float,
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
    return agreement(reference, reference_logits(model, array, perturbation)).mean_abs


def compare(
    reference: np.ndarray,
    found: np.ndarray,
    precision: str,
    cfg: DeviceParityConfig,
    moved: float | None = None,
    exclusive: bool = True,
) -> Parity:
    """Return how the logits of the device lie to the reference, both (n, classes, ..).

    Parameters
    ----------
    moved : the `sensitivity` of an INT8 model. exclusive : see `edgeward.statistics.decisions`.
    """
    common: dict[str, Any] = {
        "n": len(reference),
        "spread": float(reference.std()),
        "sensitivity": moved,
    }
    if found.shape != reference.shape or not np.isfinite(found).all():
        unlike = "the engine's logits have another shape than the reference's or are not finite"
        unknown: dict[str, Any] = dict.fromkeys(
            ("max_abs", "mean_abs", "agreement", "limit", "decided")
        )
        return Parity(**common, **unknown, passed=False, reasons=[unlike])
    same = agreement(reference, found, exclusive)
    tolerance = cfg.int8 if precision == "int8" else cfg.fp32
    judged = judge(reference, found, same, tolerance, moved or 0.0, exclusive)
    of_spread = f"{judged.limit:.3g} allowed (logit spread {common['spread']:.3g})"
    reasons = []
    if not judged.within and precision == "int8":
        reasons.append(
            f"the engine's mean logit error is {judged.found:.3g}, {of_spread}; do not use this engine for "
            "this model, or see parity.int8"
        )
    elif not judged.within:
        reasons.append(
            f"the engine's largest logit error is {judged.found:.3g}, {of_spread}; does it compute in lower "
            "precision? see parity.fp32"
        )
    if not judged.decided:
        reasons.append(
            f"the engine decides {judged.alike:.2%} of {judged.clear} clear images as the reference "
            f"does, {cfg.int8.decided_agreement:.2%} asked; see parity.int8.decided_agreement"
        )
    return Parity(
        **common,
        max_abs=same.max_abs,
        mean_abs=same.mean_abs,
        agreement=same.agreement,
        limit=judged.limit,
        decided=None if judged.clear is None else Decided(n=judged.clear, agreement=judged.alike),
        passed=not reasons,
        reasons=reasons,
    )
