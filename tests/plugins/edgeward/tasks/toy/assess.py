"""Its models on the test cases: a decision per image, and shares of right ones."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np

from edgeward.data.store import Prepared
from edgeward.records import safety as records
from edgeward.statistics.noninferiority import Endpoint
from edgeward.tasks import assessment
from edgeward.tasks.assessment import (
    Cases,
    Intervals,
    Key,
    Predicted,
    Replicates,
    Resampled,
    Share,
    keyed,
    mean_there,
)

from .config import Safety
from .task import TASK


class Arm(assessment.Arm):
    """Decisions, int64 (n,)."""

    task = TASK

    def __init__(self, cases: Cases, cfg: Safety, decisions: np.ndarray) -> None:
        self.cases, self.cfg, self.decisions = cases, cfg, decisions
        self.right = decisions == cases.labels
        self.onehot = np.arange(len(cases.classes))[:, None] == cases.labels
        once = self.replicates(np.ones((len(cases), 1)))
        self.estimates = {key: value[0] for key, value in once.items()}
        pairs = cases.labels * len(cases.classes) + decisions
        self.confusion = np.bincount(pairs, minlength=len(cases.classes) ** 2).reshape(
            len(cases.classes), -1
        )

    @classmethod
    def measure(
        cls, cases: Cases, cfg: Safety, data: Prepared, predicted: Predicted, shift: np.ndarray
    ) -> Self:
        return cls(cases, cfg, np.array([logits.argmax() for _, logits in predicted("test")]))

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "decisions.npy", self.decisions)

    @classmethod
    def read(
        cls, cases: Cases, cfg: Safety, data: Prepared, folder: Path, safety: records.Safety
    ) -> Self:
        return cls(cases, cfg, np.load(folder / "decisions.npy"))

    def replicates(self, weights: np.ndarray) -> Replicates:
        with np.errstate(invalid="ignore"):
            recall = (self.onehot & self.right) @ weights / (self.onehot @ weights)
        whole = {
            "accuracy": self.right @ weights / weights.sum(axis=0),
            "balanced": mean_there(recall),
        }
        return keyed(whole, {"recall": recall}, self.cases.classes)

    def basis(self, key: Key) -> Resampled | Share:
        if key.metric == "balanced":
            return Resampled(len(self.cases), self.cases.n_groups())
        where = np.ones(len(self.cases), dtype=bool)
        if key.subset is not None:
            where = self.has(self.cases.classes.index(key.subset))
        return Share(self.right, self.cases.labels, self.cases.groups, where, 0.0)

    def has(self, k: int) -> np.ndarray:
        return self.onehot[k]

    @staticmethod
    def asked_of(reference: assessment.Arm, found: Intervals) -> list[Endpoint]:
        n, groups = len(reference.cases), reference.cases.n_groups()
        return [Endpoint("accuracy", "accuracy", reference.cfg.margin, "higher", n, groups)]

    def changed(self, other: Self) -> np.ndarray:
        return self.decisions != other.decisions
