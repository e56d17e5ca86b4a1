"""Do two engines compute the same? The comparison that the exported file and every device have to pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from edgeward.records.parity import Agreement
from edgeward.runtimes.tolerance import Fp32Tolerance, Int8Tolerance
from edgeward.statistics.decisions import decided, margin

Forward = Callable[[np.ndarray], np.ndarray]


def run_all(forward: Forward, batches: Iterable[np.ndarray], noise: float = 0.0) -> np.ndarray:
    """Return the logits of images, float64 (n, n_classes) or (n, n_labels, *spatial).

    Parameters
    ----------
    forward : float32 (b, c, *spatial), 0-255 -> float32 logits.
    batches : such images, a batch at a time.
    noise : each pixel is changed by a uniform value in +-noise grey levels, seeded.
    """
    rng = np.random.default_rng(0)
    parts = []
    for images in batches:
        if noise:
            images = images + rng.uniform(-noise, noise, images.shape).astype(np.float32)
        parts.append(np.asarray(forward(images), dtype=np.float64))
    return np.concatenate(parts)


def compare(reference: np.ndarray, other: np.ndarray, exclusive: bool = True) -> Agreement:
    """Return how two sets of logits (n, n_classes, ..) of the same images differ.

    Of segmentation networks every pixel or voxel counts as an image, of labels that are decided each on its own
    (`exclusive` false) every label of an image.
    """
    error = np.abs(other - reference)
    flipped = decided(reference, exclusive) != decided(other, exclusive)
    return Agreement(
        max_abs=float(error.max()),
        mean_abs=float(error.mean()),
        p99_abs=float(np.quantile(error, 0.99)),
        agreement=float(1 - flipped.mean()),
        flipped=int(flipped.sum()),
        flipped_margin=float(margin(reference, exclusive)[flipped].max(initial=0.0)),
    )


@dataclass(frozen=True)
class Judgement:
    """Whether a comparison is within a tolerance.

    Attributes
    ----------
    found, limit : largest |error|, for INT8 the mean |error|, and what is allowed.
    clear : how many images the reference clearly decides; None in float.
    alike : share of them that is decided alike; None where there are none.
    within, decided : whether both conditions hold.
    """

    found: float
    limit: float
    clear: int | None
    alike: float | None
    within: bool
    decided: bool


def judge(
    reference: np.ndarray,
    other: np.ndarray,
    agreement: Agreement,
    tolerance: Fp32Tolerance | Int8Tolerance,
    sensitivity: float = 0.0,
    exclusive: bool = True,
) -> Judgement:
    """Judge a comparison.

    Parameters
    ----------
    reference, other : the logits that were compared. agreement : of `compare`, with the same `exclusive`.
    sensitivity : of INT8: mean change of the logits under the perturbation of the tolerance.
    """
    spread = float(reference.std())
    if isinstance(tolerance, Fp32Tolerance):
        limit = tolerance.limit(spread)
        within = agreement.max_abs <= limit
        return Judgement(agreement.max_abs, limit, None, None, within, decided=True)
    limit = tolerance.limit(spread, sensitivity)
    clear, alike = tolerance.decided(reference, other, limit, exclusive)
    enough = alike is None or alike >= tolerance.decided_agreement
    return Judgement(
        agreement.mean_abs, limit, clear, alike, agreement.mean_abs <= limit, decided=enough
    )
