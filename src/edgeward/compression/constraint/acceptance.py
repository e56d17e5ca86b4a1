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

from edgeward.core import plugins
from edgeward.data.store import Prepared, to_input
from edgeward.statistics.bootstrap import resample
from edgeward.statistics.noninferiority import judge
from edgeward.tasks.assessment import Arm, Cases, Key, arm_of, difference
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


def accept(before: Arm, after: Arm, cfg: AcceptanceConfig, seed: int) -> dict[str, Any]:
    """Test recall of each rare class and ECE for non-inferiority; accepted if all of them pass.

    Parameters
    ----------
    before, after : the uncompressed and the compressed network on the same cases.
    seed : of the resamples.

    Returns
    -------
    ``accepted`` (bool), ``n``, ``confidence_level`` and ``endpoints``, each with its ``margin``, both
    estimates, the ``difference`` (interval record) and the ``outcome``.
    """
    cases, arms = before.cases, {"reference": before, "compressed": after}
    drawn = resample(arms, cases.labels, cases.groups, cfg.resamples, seed)
    replicates = drawn["reference"], drawn["compressed"]
    of_class = before.task.class_difference
    endpoints: list[dict[str, Any]] = []
    for key, margin, better in (
        *((Key(of_class, name), cfg.margins.recall, "higher") for name in cases.rare_classes),
        (Key("ece"), cfg.margins.ece, "lower"),
    ):
        change = difference(before, after, key, replicates, cfg.confidence_level)
        _, low, high = change
        endpoints.append(
            {
                "metric": str(key),
                "n": change.n,
                "margin": margin,
                "reference": before.value(key),
                "compressed": after.value(key),
                "difference": change.content(),
                "outcome": judge(low, high, margin, better),
            }
        )
    return {
        "accepted": all(row["outcome"] == "pass" for row in endpoints),
        "split": "val",
        "n": len(cases),
        "confidence_level": cfg.confidence_level,
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
    indices, cases = data.indices("val"), Cases.of(data, "val")
    kind = arm_of(data.task, where := f"{data.root}/card.json")
    keys = plugins.load("edgeward.tasks", data.task, "config", where)
    section = keys.Safety(ece_bins=cfg.ece_bins)

    def measured(model: Callable[[torch.Tensor], torch.Tensor]) -> Arm:
        logits = list(zip(indices.tolist(), logits_of(model, data, indices), strict=True))
        return kind.measure(cases, section, data, lambda _: iter(logits), np.asarray(shift))

    found = accept(measured(uncompressed), measured(compressed), cfg, seed)
    outcomes = ", ".join(f"{row['metric']} {row['outcome']}" for row in found["endpoints"])
    logger.info(
        "%s on %d validation images: %s",
        "accepted" if found["accepted"] else "not accepted",
        found["n"],
        outcomes,
    )
    return found
