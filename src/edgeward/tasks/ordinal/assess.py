"""A model that decides for one of several grades, on the test images."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from edgeward.statistics.clusters import pooled_correlation
from edgeward.statistics.noninferiority import Endpoint
from edgeward.tasks import assessment
from edgeward.tasks.assessment import Basis, Intervals, Key, Resampled, Share
from edgeward.tasks.endpoints import of_all, of_classes
from edgeward.tasks.multilabel import assess as findings
from edgeward.tasks.ordinal.grades import decide, disordered, kappa, mean_absolute_error
from edgeward.tasks.ordinal.task import TASK

SHARES = ("accuracy", "far_off", "disordered")


class Arm(findings.Arm):
    """Calls and probabilities of one model, each step between grades being a finding; and the grades that follow.

    Parameters
    ----------
    cases : with the steps that each image is beyond as findings. cfg : the section ``safety.ordinal``.
    """

    task = TASK

    @property
    def labels(self) -> list[str]:
        """The grades; the lowest is what is beyond no step."""
        worse = [name.removesuffix(" or worse") for name in self.cases.classes]
        return [f"below {worse[0]}", *worse]

    @cached_property
    def grades(self) -> tuple[np.ndarray, np.ndarray]:
        """True and decided grade of each image, int64 (n,)."""
        return decide(self.scores.truth), decide(self.scores.called)

    @cached_property
    def _cell(self) -> np.ndarray:
        """Where each image stands in the flat table of true and decided grades, bool (K * K, n)."""
        truth, decision = self.grades
        k = len(self.cases.classes) + 1
        result: np.ndarray = np.arange(k * k)[:, None] == truth * k + decision
        return result

    @cached_property
    def _hit(self) -> dict[str, np.ndarray]:
        truth, decision = self.grades
        off = abs(truth - decision)
        return {
            "accuracy": off == 0,
            "far_off": off >= 2,
            "disordered": disordered(self.scores.called),
        }

    def table(self, weights: np.ndarray) -> np.ndarray:
        """Return the weight of the images by true and decided grade under weights (n, b), float (K, K, b)."""
        k = len(self.cases.classes) + 1
        return (self._cell.astype(np.float32) @ weights).astype(np.float64).reshape(k, k, -1)

    def beyond(self, weights: np.ndarray) -> dict[Key, np.ndarray]:
        table, total = self.table(weights), weights.sum(axis=0)
        return {
            Key("kappa"): kappa(table),
            Key("mean_absolute_error"): mean_absolute_error(table),
            **{Key(name): (self._hit[name] @ weights) / total for name in SHARES},
        }

    def _confusion(self) -> np.ndarray:
        k = len(self.cases.classes) + 1
        result: np.ndarray = self._cell.sum(axis=1).reshape(k, k)
        return result

    def basis(self, key: Key) -> Basis:
        n, groups = len(self.cases), self.cases.n_groups()
        if key.metric in SHARES:
            hit, labels, of = self._hit[key.metric], self.cases.labels, self.cases.groups
            alike = pooled_correlation(hit.astype(float), labels, of)
            return Share(hit, labels, of, np.ones(n, dtype=bool), alike)
        if key.metric in ("kappa", "mean_absolute_error"):
            return Resampled(n, groups, saturates=key.metric == "kappa")
        return super().basis(key)

    @staticmethod
    def asked_of(reference: assessment.Arm, found: Intervals) -> list[Endpoint]:
        """Return sensitivity of rare and critical steps, floors, kappa, mean absolute error, mean AUC and ECE."""
        margins = reference.cfg.margins
        asked = (
            ("kappa", "kappa", margins.kappa),
            ("mean absolute error", "mean_absolute_error", margins.mean_absolute_error),
            ("mean AUC", "auc_macro", margins.auc),
            ("RMS-ECE", "ece", margins.ece),
        )
        return [*of_classes(reference, found), *of_all(reference, asked)]
