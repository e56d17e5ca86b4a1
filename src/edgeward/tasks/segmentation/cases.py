"""What is measured of each case of a segmentation.

Conventions for what is empty. A case whose mask lacks a class has no Dice, IoU, distance or surface
Dice of it (NaN): it would be 0 or 1 for any prediction. It counts in `false_alarms` and in the
pooled Dice instead. Where the mask has the class and the prediction lacks it, Dice, IoU and
surface Dice are 0 and the distance is the diagonal of the image, the largest there is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from edgeward.statistics.calibration import CLASSIC_BINS, equal_width_bins
from edgeward.tasks.segmentation.config import Safety
from edgeward.tasks.segmentation.surfaces import near_boundary, surfaces
from edgeward.tasks.segmentation.tables import Lesion, Overlap, Tables

_PERCENT = 95.0


def components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the connected parts of a mask from 1; voxels that share a corner are connected."""
    return ndimage.label(mask, structure=np.ones((3,) * mask.ndim))


def find_lesions(
    truth: np.ndarray, said: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Look for every lesion of a mask in a prediction.

    Parameters
    ----------
    truth, said : bool, shape (*spatial).
    share : of a lesion's voxels that must be predicted.

    Returns
    -------
    voxels : int64 (lesions,). found : bool (lesions,). false : parts of the prediction off any lesion.
    """
    parts, n = components(truth)
    voxels = np.bincount(parts.ravel(), minlength=n + 1)[1:]
    hit = np.bincount(parts[said], minlength=n + 1)[1:]
    said_parts, n_said = components(said)
    touched = np.bincount(said_parts[truth], minlength=n_said + 1)[1:]
    return voxels, hit >= share * voxels, int((touched == 0).sum())


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, float32 (n_labels, *spatial)."""
    z = np.exp(logits - logits.max(axis=0))
    result: np.ndarray = z / z.sum(axis=0)
    return result


def calibration_sums(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Return voxels, sum of confidences and number of right ones per bin of equal width, float64 (15, 3).

    Parameters
    ----------
    confidence, correct : float and bool, shape (n,): of the decision of each voxel.
    """
    bin_of = equal_width_bins(confidence)
    return np.stack(
        [np.bincount(bin_of, w, CLASSIC_BINS) for w in (None, confidence, correct)], axis=1
    ).astype(np.float64)


def measure(
    tables: Tables,
    index: int,
    logits: np.ndarray,
    mask: np.ndarray,
    spacing: Sequence[float],
    shift: np.ndarray,
    cfg: Safety,
) -> np.ndarray:
    """Add one case to the tables; return its predicted labels, uint8 (*spatial).

    Parameters
    ----------
    logits : float32, shape (n_labels, *spatial); label 0 is background.
    mask : uint8, shape (*spatial).
    spacing : mm.
    shift : float (n_labels,), added to the logits for probabilities (not for the decision).
    """
    n_labels = len(logits)
    decision = logits.argmax(axis=0).astype(np.uint8)
    probability = softmax(logits + shift.reshape(-1, *[1] * mask.ndim).astype(np.float32))
    confidence = np.take_along_axis(probability, decision[None].astype(np.int64), axis=0)[0]
    correct = decision == mask
    band = near_boundary(mask, cfg.boundary, spacing)
    tables.sums.append(
        np.stack(
            [
                calibration_sums(confidence[where], correct[where])
                for where in (np.ones(mask.shape, dtype=bool), band)
            ]
        )
    )
    table = np.bincount(
        mask.ravel().astype(np.int64) * n_labels + decision.ravel(), minlength=n_labels**2
    )
    table = table.reshape(n_labels, n_labels)
    tables.confusion = table if tables.confusion is None else tables.confusion + table
    voxel, diagonal = (
        float(np.prod(spacing)),
        float(np.hypot.reduce(np.multiply(mask.shape, spacing))),
    )
    for number in range(n_labels - 1):
        truth, said = mask == number + 1, decision == number + 1
        voxels, found, false = find_lesions(truth, said, cfg.detected_share)
        n_true, n_said = int(truth.sum()), int(said.sum())
        both = int((truth & said).sum())
        dice = iou = hd95 = surface_dice = float("nan")
        if n_true:
            dice, iou = 2 * both / (n_true + n_said), both / (n_true + n_said - both)
            hd95, surface_dice = diagonal, 0.0
        if n_true and n_said:
            measured = surfaces(truth, said, spacing)
            hd95, surface_dice = measured.hausdorff(_PERCENT), measured.dice(cfg.tolerance)
        tables.overlaps.append(
            Overlap(
                index, number, n_true, n_said, both, dice, iou, hd95, surface_dice,
                len(voxels), int(found.sum()), false,
            )
        )  # fmt: skip
        tables.lesions += [
            Lesion(index, number, k, float(size * voxel), bool(hit))
            for k, (size, hit) in enumerate(zip(voxels, found, strict=True))
        ]
    return decision
