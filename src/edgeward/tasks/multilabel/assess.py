"""A model that calls several findings, on the test images."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import JsonValue

from edgeward.core.errors import UserError
from edgeward.data.store import Prepared
from edgeward.records.safety import Curve, Reliability, Safety
from edgeward.statistics.clusters import pooled_correlation
from edgeward.statistics.conformal import sets, thresholds
from edgeward.statistics.noninferiority import Endpoint
from edgeward.statistics.proportions import proportion
from edgeward.statistics.ranking import cut, roc
from edgeward.tasks import assessment
from edgeward.tasks.assessment import (
    Aligned,
    Basis,
    Cases,
    Intervals,
    Key,
    MeanOfShares,
    Predicted,
    Replicates,
    Resampled,
    Share,
    keyed,
    read_logits,
    write_logits,
)
from edgeward.tasks.causes import align, causes
from edgeward.tasks.endpoints import of_all, of_classes
from edgeward.tasks.multilabel.arm import OF_CLASS, Metrics, Scores
from edgeward.tasks.multilabel.config import Safety as Config
from edgeward.tasks.multilabel.task import TASK

AT_POINT = ("sensitivity_at_specificity", "specificity_at_sensitivity")
POINTS = 60  # of a curve


class Fixed:
    """What validation fixes of a model before a test image is seen.

    Attributes
    ----------
    points : log odds from which each finding is called: metric -> finding; NaN if validation lacks it.
    least : float64 (c,), least log probability of a finding in a prediction set; -inf where validation holds too few.
    """

    def __init__(self, val: Scores, cfg: Config) -> None:
        z, ill, well = val.natural, val.truth, val.known & ~val.truth
        c, point = range(z.shape[1]), cfg.operating
        self.points = {
            AT_POINT[0]: [cut(z[well[:, k], k], point.specificity, "higher") for k in c],
            AT_POINT[1]: [cut(z[ill[:, k], k], 1 - point.sensitivity, "lower") for k in c],
        }
        self.least = (
            np.full(len(c), -np.inf)
            if cfg.coverage is None
            else thresholds(val.log_p, val.truth, cfg.coverage)
        )


class Arm(assessment.Arm):
    """Calls and probabilities of one model.

    Parameters
    ----------
    cases : with findings. cfg : the section ``safety.multilabel``.
    logits, val_logits : float32 (n, c), of the test and of the validation images. shift : float (c,).
    val : what validation fixes.
    """

    task = TASK

    def __init__(
        self,
        cases: Cases,
        cfg: Any,
        logits: np.ndarray,
        shift: np.ndarray,
        val_logits: np.ndarray,
        fixed: Fixed,
    ) -> None:
        self.cases, self.cfg, self.logits, self.shift = cases, cfg, logits, shift
        self.val_logits, self.fixed = val_logits, fixed
        if cases.findings is None:
            raise UserError("The prepared data hold no findings; prepare them for this task.")
        self.scores = Scores.of(logits, cases.findings, shift)
        rare = np.array([cases.classes.index(k) for k in cases.rare_classes], dtype=np.int64)
        self.metrics = Metrics(self.scores, cases.groups, rare, cfg.ece_bins)
        self.estimates = self._keyed(self.metrics.estimates)
        once = self.beyond(np.ones((len(cases), 1)))
        self.estimates |= {key: value[0] for key, value in once.items()}
        classwise = {Key("ece", name) for name in cases.classes}
        self.squared = frozenset({Key("ece"), *classwise})
        self.biased = frozenset({*self.squared, Key("ece_15bin")})
        self.confusion = self._confusion()

    def _confusion(self) -> np.ndarray:
        truth, called = self.scores.truth.astype(np.int64), self.scores.called.astype(np.int64)
        result: np.ndarray = truth.T @ called
        return result

    @classmethod
    def of(
        cls,
        cases: Cases,
        cfg: Any,
        logits: np.ndarray,
        shift: np.ndarray,
        val: tuple[np.ndarray, np.ndarray],
    ) -> Self:
        """Return a model by its logits; `val` are logits and findings of the validation images."""
        return cls(cases, cfg, logits, shift, val[0], Fixed(Scores.of(*val, shift), cfg))

    def _keyed(self, values: Mapping[str, np.ndarray]) -> dict[Key, np.ndarray]:
        whole = {name: value for name, value in values.items() if name not in OF_CLASS}
        per_class = {metric: values[name] for name, metric in OF_CLASS.items()}
        return keyed(whole, per_class, self.cases.classes)

    @classmethod
    def measure(
        cls, cases: Cases, cfg: Config, data: Prepared, predicted: Predicted, shift: np.ndarray
    ) -> Self:
        val = np.stack([logits for _, logits in predicted("val")])
        test = np.stack([logits for _, logits in predicted("test")])
        return cls.of(cases, cfg, test, shift, (val, data.truth[data.indices("val")]))

    def write(self, folder: Path) -> None:
        write_logits(folder, self.logits, self.val_logits)

    @classmethod
    def read(cls, cases: Cases, cfg: Config, data: Prepared, folder: Path, safety: Safety) -> Self:
        logits, val = read_logits(folder)
        truth = data.truth[data.indices("val")]
        return cls.of(cases, cfg, logits, np.array(safety.logit_shift), (val, truth))

    def restricted(self, where: np.ndarray) -> Self:
        cases = self.cases.restricted(where)
        return type(self)(
            cases, self.cfg, self.logits[where], self.shift, self.val_logits, self.fixed
        )

    def replicates(self, weights: np.ndarray) -> Replicates:
        return self._keyed(self.metrics.replicates(weights)) | self.beyond(weights)

    def beyond(self, weights: np.ndarray) -> dict[Key, np.ndarray]:
        """Return what follows from all calls of a case together, under weights (n, b): the mean size of the prediction sets."""
        return {Key("set_size"): (self.sets.sum(axis=1) @ weights) / weights.sum(axis=0)}

    @cached_property
    def sets(self) -> np.ndarray:
        """Which findings are in the prediction set of each image, bool (n, c)."""
        return sets(self.scores.log_p, self.fixed.least)

    def has(self, k: int) -> np.ndarray:
        result: np.ndarray = self.scores.truth[:, k]
        return result

    def _lacks(self, k: int) -> np.ndarray:
        result: np.ndarray = self.scores.known[:, k] & ~self.scores.truth[:, k]
        return result

    @property
    def scarcest(self) -> int:
        """Groups of the finding with fewest, among the findings that are there."""
        groups = [self.cases.n_groups(self.has(k)) for k in range(len(self.cases.classes))]
        return min((g for g in groups if g), default=0)

    def basis(self, key: Key) -> Basis:
        n, groups = len(self.cases), self.cases.n_groups()
        if key.subset is not None:
            return self._of_class(key.metric, self.cases.classes.index(key.subset))
        if key.metric == "exact_match":
            right = (self.scores.right | ~self.scores.known).all(axis=1)
            labels, of = self.cases.labels, self.cases.groups
            alike = pooled_correlation(right.astype(float), labels, of)
            return Share(right, labels, of, np.ones(n, dtype=bool), alike)
        parts = {
            "balanced_accuracy": ("recall", "specificity"),
            "sensitivity": ("recall",),
            "specificity": ("specificity",),
            "rare_recall": ("recall",),
        }.get(key.metric)
        if parts is not None:
            rare = key.metric == "rare_recall"
            names = self.cases.rare_classes if rare else self.cases.classes
            of_each = tuple(Key(part, name) for name in names for part in parts)
            return MeanOfShares(of_each, self.scarcest)
        if key.metric in ("auc_macro", "map", "f1_macro"):
            numbers = range(len(self.cases.classes))
            some = any(
                self.has(k).any() and (self._lacks(k).any() or key.metric != "auc_macro")
                for k in numbers
            )
            return Resampled(n if some else 0, self.scarcest, saturates=key.metric != "f1_macro")
        return Resampled(n, groups)

    def _of_class(self, metric: str, k: int) -> Basis:
        has, lacks = self.has(k), self._lacks(k)
        if metric == "recall":
            return self._share(self.scores.called[:, k], k, has)
        if metric == "specificity":
            return self._share(~self.scores.called[:, k], k, lacks)
        if metric == "set_coverage":
            return self._share(self.sets[:, k], k, has)
        if metric in AT_POINT:
            threshold, z = self.fixed.points[metric][k], self.scores.natural[:, k]
            there = np.isfinite(threshold)
            if metric == AT_POINT[0]:
                return self._share(z > threshold, k, has & there)
            return self._share(z < threshold, k, lacks & there)
        if metric in ("auc", "ap", "f1"):
            groups = min(self.cases.n_groups(has), self.cases.n_groups(lacks))
            both = bool(has.any() and (lacks.any() or metric != "auc"))
            return Resampled(int(has.sum()) if both else 0, groups, saturates=metric != "f1")
        known = has | lacks
        return Resampled(int(known.sum()), self.cases.n_groups(known))

    def _share(self, hit: np.ndarray, k: int, where: np.ndarray) -> Share:
        """Return a share of cases with a hit; how alike those of a group are is taken over all whose finding is known."""
        cases, known = self.cases, self.scores.known[:, k]
        label = self.scores.truth[:, k].astype(np.int64)
        alike = pooled_correlation(hit[known].astype(float), label[known], cases.groups[known])
        return Share(hit, np.where(known, label, -1), cases.groups, where, alike)

    def aligned(self, reference: Self) -> Aligned | None:
        assert self.cases.findings is not None
        return align((reference.val_logits, self.val_logits), self.logits, self.cases.findings)

    causes = staticmethod(causes)

    @property
    def critical(self) -> list[str]:
        return [name for name in self.cases.classes if name in self.cfg.critical]

    @staticmethod
    def asked_of(reference: assessment.Arm, found: Intervals) -> list[Endpoint]:
        """Return recall of rare and critical findings, floors, balanced accuracy, macro AUC, mAP and ECE."""
        margins = reference.cfg.margins
        asked = (
            ("balanced accuracy", "balanced_accuracy", margins.balanced_accuracy),
            ("mean AUC", "auc_macro", margins.auc),
            ("mAP", "map", margins.average_precision),
            ("RMS-ECE", "ece", margins.ece),
        )
        return [*of_classes(reference, found), *of_all(reference, asked)]

    def changed(self, other: Self) -> np.ndarray:
        """Return the share of each image's findings that the two call differently, float64 (n,)."""
        result: np.ndarray = (self.scores.called != other.scores.called).mean(axis=1)
        return result

    def reliability(self, replicates: Replicates, level: float) -> dict[str, Reliability]:
        """Return the diagram over equal-mass bins of all findings: how often what is given a probability is there."""
        del replicates
        known = self.scores.known
        p, truth, bin_of = (x[known] for x in (self.scores.p, self.scores.truth, self._bins))
        groups = np.broadcast_to(self.cases.groups[:, None], known.shape)[known]
        pooled = pooled_correlation(truth - p, bin_of, groups)
        bins = [bin_of == b for b in range(int(bin_of.max(initial=-1)) + 1)]
        rows = [proportion(truth[mine], groups[mine], pooled, level) for mine in bins]
        return {
            "all": Reliability(
                confidence=[float(p[mine].mean()) for mine in bins],
                accuracy=[row.estimate for row in rows],
                low=[row.low for row in rows],
                high=[row.high for row in rows],
                count=[int(mine.sum()) for mine in bins],
            )
        }

    @property
    def _bins(self) -> np.ndarray:
        return self.metrics.bin_of

    def curves(self) -> dict[str, Curve]:
        found = {}
        for k, name in enumerate(self.cases.classes):
            known, mine = self.scores.known[:, k], self.has(k)
            if mine.any() and self._lacks(k).any():
                points = roc(self.scores.natural[known, k], mine[known], POINTS)
                fpr, tpr, precision = points.round(5).tolist()
                found[name] = Curve(fpr=fpr, tpr=tpr, precision=precision)
        return found

    @property
    def facts(self) -> dict[str, JsonValue]:
        """The probability at the natural prevalence above which each finding is called."""
        at = 1 / (1 + np.exp(-np.asarray(self.shift, np.float64)))
        return {"threshold": dict(zip(self.cases.classes, at.round(4).tolist(), strict=True))}

    @property
    def counts(self) -> dict[str, int]:
        rare = [self.cases.classes.index(name) for name in self.cases.rare_classes]
        return {
            "val": len(self.val_logits),
            "rare": int(self.scores.truth[:, rare].any(axis=1).sum()),
        }

    def class_counts(self, k: int) -> dict[str, int]:
        return {} if self.scores.known.all() else {"unknown": int((~self.scores.known[:, k]).sum())}
