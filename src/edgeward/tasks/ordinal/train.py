"""Training for one grade per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from edgeward.data.store import Prepared
from edgeward.tasks.batches import Sampling
from edgeward.tasks.config import PatchConfig
from edgeward.tasks.multilabel import train as findings
from edgeward.tasks.ordinal.config import LossConfig
from edgeward.tasks.ordinal.grades import decide, kappa, mean_absolute_error


@dataclass
class Ordinal(findings.Multilabel):
    """One grade per image; `criterion` takes logits (b, K - 1) and the steps that each image is beyond, int8 (b, K - 1)."""

    watched: ClassVar[str] = "val_kappa"
    shown: ClassVar[dict[str, str]] = {
        "kappa": "val_kappa",
        "MAE": "val_mean_absolute_error",
        "AUC": "val_auc",
    }

    def metrics(self, observed: Sequence[tuple[np.ndarray, ...]]) -> dict[str, float]:
        found = super().metrics(observed)
        logits, beyond = (np.concatenate(parts) for parts in zip(*observed, strict=True))
        grades = logits.shape[1] + 1
        cells = decide(beyond == 1) * grades + decide(logits > 0)
        table = np.bincount(cells, minlength=grades**2).reshape(grades, grades)
        agreement = float(kappa(table))
        return {
            **found,
            # all in one grade, as after the first steps of training: chance
            "val_kappa": agreement if np.isfinite(agreement) else 0.0,
            "val_mean_absolute_error": float(mean_absolute_error(table)),
        }


def training_task(
    data: Prepared,
    loss: LossConfig | None,
    *,
    patches: PatchConfig | None,
    layout: torch.memory_format,
    sampling: Sampling,
) -> Ordinal:
    """See `edgeward.training.task`."""
    of_findings = None if loss is None else loss.of_findings
    made = findings.training_task(
        data, of_findings, patches=patches, layout=layout, sampling=sampling
    )
    return Ordinal(**vars(made))
