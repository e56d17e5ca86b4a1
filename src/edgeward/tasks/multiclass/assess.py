"""A model that decides for one of several classes, on the test images."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import JsonValue

from edgeward.core.errors import UserError
from edgeward.data.montage import plane
from edgeward.data.store import Prepared
from edgeward.records.safety import Curve, Reliability, Safety
from edgeward.statistics.calibration import equal_mass_bins
from edgeward.statistics.clusters import pooled_correlation
from edgeward.statistics.conformal import sets
from edgeward.statistics.proportions import proportion
from edgeward.statistics.ranking import roc
from edgeward.statistics.selective import risk_coverage
from edgeward.statistics.temperature import fit_temperature
from edgeward.tasks import assessment
from edgeward.tasks.assessment import (
    Aligned,
    Basis,
    Cases,
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
from edgeward.tasks.multiclass.arm import BIASED, PER_CLASS, SQUARED, Metrics
from edgeward.tasks.multiclass.config import Safety as Config
from edgeward.tasks.multiclass.contact import contact_sheet
from edgeward.tasks.multiclass.endpoints import endpoints
from edgeward.tasks.multiclass.exemplars import forgotten
from edgeward.tasks.multiclass.fixed import AT_POINT, Fixed, Labelled
from edgeward.tasks.multiclass.scores import natural_logits, score
from edgeward.tasks.multiclass.task import TASK

PICTURES = 18  # on the contact sheet of each recipe
POINTS = 60  # of a curve


class Arm(assessment.Arm):
    """Decisions and probabilities of one model.

    Parameters
    ----------
    cfg : the section ``safety.multiclass``.
    logits : float32, shape (n, c), of the test images.
    shift : float, shape (c,). temperature : fitted on the validation images.
    val : the validation images, on which thresholds are fixed; fixed : what was, if that is known.
    """

    task = TASK

    def __init__(
        self,
        cases: Cases,
        cfg: Any,
        logits: np.ndarray,
        shift: np.ndarray,
        temperature: float,
        val: Labelled | None = None,
        fixed: Fixed | None = None,
    ) -> None:
        self.cases, self.cfg, self.logits, self.val = cases, cfg, logits, val
        self.shift, self.temperature = shift, temperature
        classes, c = cases.classes, len(cases.classes)
        if logits.shape != (len(cases), c):
            raise UserError(f"Logits have shape {logits.shape}; needed: ({len(cases)}, {c}).")
        self.fixed = fixed or Fixed.of(val, c, shift, temperature, cfg)
        self.scores = scores = score(logits, cases.labels, shift, temperature)
        self.rare = np.array([classes.index(k) for k in cases.rare_classes], dtype=np.int64)
        self.metrics = Metrics(scores, cases.labels, cases.groups, c, self.rare, cfg.ece_bins)
        self.estimates = self._keyed(self.metrics.estimates)
        once = self._uncertain(np.ones((len(cases), 1), dtype=np.float32))
        self.estimates |= {key: value[0] for key, value in once.items()}
        self.biased = frozenset(key for key in self.estimates if key.metric in BIASED)
        self.squared = frozenset(key for key in self.estimates if key.metric in SQUARED)
        right = scores.correct.astype(float)
        self._alike = pooled_correlation(right, cases.labels, cases.groups)
        self.confusion = np.bincount(cases.labels * c + scores.decision, minlength=c * c)
        self.confusion = self.confusion.reshape(c, c)

    def _keyed(self, values: Mapping[str, np.ndarray]) -> dict[Key, np.ndarray]:
        whole = {name: value for name, value in values.items() if name not in PER_CLASS}
        return keyed(whole, {name: values[name] for name in PER_CLASS}, self.cases.classes)

    @classmethod
    def measure(
        cls, cases: Cases, cfg: Config, data: Prepared, predicted: Predicted, shift: np.ndarray
    ) -> Self:
        val = np.stack([logits for _, logits in predicted("val")])
        labels = data.labels[data.indices("val")]
        temperature = fit_temperature(natural_logits(val, shift), labels)
        test = np.stack([logits for _, logits in predicted("test")])
        return cls(cases, cfg, test, shift, temperature, Labelled(val, labels))

    def write(self, folder: Path) -> None:
        assert self.val is not None, "measured"
        write_logits(folder, self.logits, self.val.logits)

    @classmethod
    def read(cls, cases: Cases, cfg: Config, data: Prepared, folder: Path, safety: Safety) -> Self:
        logits, val = read_logits(folder)
        temperature = float(str(safety.facts["temperature"]))
        labels = data.labels[data.indices("val")]
        return cls(
            cases, cfg, logits, np.array(safety.logit_shift), temperature, Labelled(val, labels)
        )

    def restricted(self, where: np.ndarray) -> Self:
        return type(self)(
            self.cases.restricted(where),
            self.cfg,
            self.logits[where],
            self.shift,
            self.temperature,
            self.val,
            self.fixed,
        )

    def replicates(self, weights: np.ndarray) -> Replicates:
        return self._keyed(self.metrics.replicates(weights)) | self._uncertain(weights)

    def _uncertain(self, weights: np.ndarray) -> dict[Key, np.ndarray]:
        """Return the mean size of the prediction sets, and the risk of what is decided, under weights (n, b)."""
        if self.val is None:
            nothing = np.full(weights.shape[1], np.nan)
            return {Key("set_size"): nothing, Key("selective_risk"): nothing}
        decided = self.scores.confidence >= self.fixed.least_confidence
        wrong = decided & ~self.scores.correct
        with np.errstate(invalid="ignore", divide="ignore"):
            risk = (wrong @ weights) / (decided @ weights)
        return {
            Key("set_size"): (self.sets.sum(axis=1) @ weights) / weights.sum(axis=0),
            Key("selective_risk"): risk,
        }

    @cached_property
    def sets(self) -> np.ndarray:
        """Which classes are in the prediction set of each image, bool (n, c); all of them without validation."""
        return sets(self.scores.log_p, self.fixed.least)

    def has(self, k: int) -> np.ndarray:
        result: np.ndarray = self.cases.labels == k
        return result

    @property
    def scarcest(self) -> int:
        """Groups of the class with fewest, among the classes that are there."""
        return min(self.cases.n_groups(self.has(k)) for k in np.unique(self.cases.labels))

    def basis(self, key: Key) -> Basis:
        n, groups = len(self.cases), self.cases.n_groups()
        if key.subset is not None:
            k = self.cases.classes.index(key.subset)
            mine = self.has(k)
            if key.metric == "recall":
                return self._share(self.scores.correct, mine)
            if key.metric == "specificity":
                return self._share(self.scores.decision != k, ~mine)
            if key.metric == "set_coverage":
                held, there = self.sets[:, k], self.val is not None
                alike = pooled_correlation(
                    self.sets[np.arange(n), self.cases.labels].astype(float),
                    self.cases.labels,
                    self.cases.groups,
                )
                return Share(held, self.cases.labels, self.cases.groups, mine & there, alike)
            if key.metric in AT_POINT:
                return self._at_point(key.metric, k)
            if key.metric == "auc":
                groups = min(self.cases.n_groups(mine), self.cases.n_groups(~mine))
                return Resampled(int(mine.sum()), groups, saturates=True)
            return Resampled(n, groups)
        if key.metric == "accuracy":
            return self._share(self.scores.correct, np.ones(n, dtype=bool))
        if key.metric in ("balanced_accuracy", "rare_recall"):
            rare = key.metric == "rare_recall"
            names = self.cases.rare_classes if rare else self.cases.classes
            return MeanOfShares(tuple(Key("recall", name) for name in names), self.scarcest)
        if key.metric == "auc_macro":
            return Resampled(n, self.scarcest, saturates=True)
        return Resampled(n, groups)

    def _at_point(self, metric: str, k: int) -> Share:
        """Return a share right of one class against the rest at the threshold that was fixed on validation."""
        threshold, positive = self.fixed.points[metric][k], self.has(k)
        score, there = self.scores.log_odds[:, k], np.isfinite(threshold)
        of_ill = metric == "sensitivity_at_specificity"
        hit, where = (score > threshold, positive) if of_ill else (score < threshold, ~positive)
        alike = pooled_correlation(hit.astype(float), self.cases.labels, self.cases.groups)
        return Share(hit, self.cases.labels, self.cases.groups, where & there, alike)

    def aligned(self, reference: Self) -> Aligned | None:
        if self.val is None or reference.val is None:
            return None
        return align((reference.val.logits, self.val.logits), self.logits, self.cases.labels)

    causes = staticmethod(causes)

    def _share(self, hit: np.ndarray, where: np.ndarray) -> Share:
        return Share(hit, self.cases.labels, self.cases.groups, where, self._alike)

    @property
    def critical(self) -> list[str]:
        return [name for name in self.cases.classes if name in self.cfg.critical]

    asked_of = staticmethod(endpoints)

    def changed(self, other: Self) -> np.ndarray:
        result: np.ndarray = self.scores.decision != other.scores.decision
        return result

    def reliability(self, replicates: Replicates, level: float) -> dict[str, Reliability]:
        """Return the diagram over equal-mass bins, accuracies with Wilson intervals."""
        del replicates
        confidence, correct = self.scores.confidence, self.scores.correct
        groups, bin_of = self.cases.groups, equal_mass_bins(confidence, self.cfg.ece_bins)
        pooled = pooled_correlation(correct - confidence, bin_of, groups)
        bins = [bin_of == b for b in range(bin_of.max() + 1)]
        rows = [proportion(correct[mine], groups[mine], pooled, level) for mine in bins]
        return {
            "all": Reliability(
                confidence=[float(confidence[mine].mean()) for mine in bins],
                accuracy=[row.estimate for row in rows],
                low=[row.low for row in rows],
                high=[row.high for row in rows],
                count=[int(mine.sum()) for mine in bins],
            )
        }

    def selective(self) -> dict[str, list[float]]:
        coverage, risk = (
            risk_coverage(self.scores.confidence, self.scores.correct, POINTS).round(5).tolist()
        )
        return {"coverage": coverage, "risk": risk}

    def curves(self) -> dict[str, Curve]:
        found = {}
        for k, name in enumerate(self.cases.classes):
            mine = self.has(k)
            if mine.any() and not mine.all():
                fpr, tpr, precision = (
                    roc(self.scores.log_odds[:, k], mine, POINTS).round(5).tolist()
                )
                found[name] = Curve(fpr=fpr, tpr=tpr, precision=precision)
        return found

    @property
    def facts(self) -> dict[str, JsonValue]:
        return {
            "temperature": self.temperature,
            "smooth_ece_bandwidth": self.metrics.bandwidth,
        }

    @property
    def counts(self) -> dict[str, int]:
        val = {} if self.val is None else {"val": len(self.val.logits)}
        return {**val, "rare": int(np.isin(self.cases.labels, self.rare).sum())}

    @classmethod
    def exemplars(
        cls,
        members: Mapping[tuple[str, str], list[Self]],
        references: Mapping[str, str],
        data: Prepared,
        seed: int,
    ) -> list[dict[str, JsonValue]]:
        def picture(index: int) -> np.ndarray:
            return plane(data, index)[0]

        found = forgotten(members, references, seed)
        for entry in found:
            entry["sheet"] = contact_sheet(entry, picture, data.classes, PICTURES)
        return found
