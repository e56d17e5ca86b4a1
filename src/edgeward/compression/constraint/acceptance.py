"""The non-inferiority test on the validation split: is the compressed network as good as it was?

The same statistics as the verdict's (`edgeward.safety`), on other images and before export. It is a
record: the verdict, on the test split and on what ships, decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from edgeward.data.store import Prepared, to_input
from edgeward.statistics.intervals import percentile, record
from edgeward.statistics.noninferiority import judge
from edgeward.statistics.paired import paired_recall
from edgeward.tasks.multiclass.arm import Arm, run
from edgeward.tasks.multiclass.scores import score
from edgeward.training.config import AcceptanceConfig

logger = logging.getLogger(__name__)
BATCH = 128


@torch.no_grad()
def logits_of(
    model: Callable[[torch.Tensor], torch.Tensor], data: Prepared, indices: np.ndarray
) -> np.ndarray:
    """Return the logits of some images, float32 (n, n_classes), in the order given."""
    parts = [indices[start : start + BATCH] for start in range(0, len(indices), BATCH)]
    return np.concatenate(
        [model(torch.from_numpy(to_input(data.images[part]))).numpy() for part in parts]
    )


def accept(
    compressed: np.ndarray,
    reference: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    classes: list[str],
    rare: list[str],
    shift: np.ndarray,
    cfg: AcceptanceConfig,
    seed: int,
) -> dict[str, Any]:
    """Test recall of each rare class and ECE for non-inferiority; accepted if all of them pass.

    Parameters
    ----------
    compressed, reference : logits of the same images, float, shape (n, n_classes).
    labels, groups : int, shape (n,).
    rare : names of the rare classes, among `classes`.
    shift : ``logit_shift``, shape (n_classes,), of both.
    seed : of the resamples.

    Returns
    -------
    ``accepted`` (bool), ``n``, ``confidence_level`` and ``endpoints``, each with its ``margin``, both
    estimates, the ``difference`` (interval record) and the ``outcome``.
    """
    level, margins = cfg.confidence_level, cfg.margins
    numbers = np.array([classes.index(name) for name in rare], dtype=np.int64)
    arms, correct = {}, {}
    for name, logits in (("reference", reference), ("compressed", compressed)):
        scores = score(logits, labels, shift, 1.0)
        arms[name] = Arm(scores, labels, groups, len(classes), numbers, cfg.ece_bins)
        correct[name] = scores.correct
    rows = paired_recall(
        correct["reference"], correct["compressed"], labels, groups, len(classes), level
    )
    endpoints: list[dict[str, Any]] = []
    for k, name in zip(numbers, rare, strict=True):
        row = rows[k]
        endpoints.append(
            {
                "metric": f"recall_{name}",
                "n": row.n,
                "margin": margins.recall,
                "reference": float(arms["reference"].estimates["recall"][k]),
                "compressed": float(arms["compressed"].estimates["recall"][k]),
                "difference": row.record(),
                "outcome": judge(row.low, row.high, margins.recall, "higher"),
            }
        )
    replicates = run(arms, labels, groups, cfg.resamples, seed)
    low, high = percentile(
        replicates["compressed"]["ece"] - replicates["reference"]["ece"],
        level,
        len(np.unique(groups)),
    )
    before, after = (
        float(np.sqrt(max(float(arms[name].estimates["ece"]), 0.0)))
        for name in ("reference", "compressed")
    )
    endpoints.append(
        {
            "metric": "ece",
            "n": len(labels),
            "margin": margins.ece,
            "reference": before,
            "compressed": after,
            "difference": record(
                after - before, low, high, n=len(labels), method="clustered bootstrap, paired"
            ),
            "outcome": judge(low, high, margins.ece, "lower"),
        }
    )
    return {
        "accepted": all(row["outcome"] == "pass" for row in endpoints),
        "split": "val",
        "n": len(labels),
        "confidence_level": level,
        "endpoints": endpoints,
    }


def accept_on_validation(
    compressed: Callable[[torch.Tensor], torch.Tensor],
    uncompressed: Callable[[torch.Tensor], torch.Tensor],
    data: Prepared,
    shift: list[float],
    cfg: AcceptanceConfig,
    seed: int,
) -> dict[str, Any]:
    """Run both networks on the validation split and return `accept`'s record."""
    indices = data.indices("val")
    found = accept(
        logits_of(compressed, data, indices),
        logits_of(uncompressed, data, indices),
        data.labels[indices],
        data.groups[indices],
        classes=data.classes,
        rare=list(data.card["rare_classes"]),
        shift=np.asarray(shift),
        cfg=cfg,
        seed=seed,
    )
    outcomes = ", ".join(f"{row['metric']} {row['outcome']}" for row in found["endpoints"])
    logger.info(
        "%s on %d validation images: %s",
        "accepted" if found["accepted"] else "not accepted",
        found["n"],
        outcomes,
    )
    return found
