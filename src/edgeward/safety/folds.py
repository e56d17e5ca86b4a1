"""The models of the folds of a cross-validation as one: every case decided by the model that has not seen it.

A metric is that of each fold, weighed by what it counts there, since scores of different models do not rank or
calibrate together; shares come to those of all cases. `edgeward.statistics.folds` says how uncertain the mean over trainings is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import JsonValue

from edgeward.data.store import Prepared
from edgeward.records.safety import Decision, Safety
from edgeward.statistics.clusters import pooled_correlation
from edgeward.statistics.folds import Spread
from edgeward.statistics.noninferiority import Endpoint
from edgeward.tasks.assessment import (
    Aligned,
    Arm,
    Basis,
    Cases,
    Intervals,
    Key,
    MeanOfShares,
    Predicted,
    Replicates,
    Resampled,
    Share,
    mean_there,
)

_ONE = "a model of each fold is measured, not all of them together"


class Folds(Arm):
    """Models that were trained alike and tested on different cases, as one.

    Parameters
    ----------
    parts : those of the folds, at least one, with the same settings.
    """

    def __init__(self, parts: Sequence[Arm]) -> None:
        self.parts, first = list(parts), parts[0]
        self.task, self.cfg = first.task, first.cfg
        every = [part.cases for part in parts]
        self.cases = Cases.joined(every)
        ends = np.cumsum([len(c) for c in every])
        self._rows = [slice(end - len(c), end) for end, c in zip(ends, every, strict=True)]
        self.confusion = np.sum([part.confusion for part in parts], axis=0)
        self._means = {key: self._mean(key) for key in self.keys}
        self.estimates = self._together([part.estimates for part in self.parts])
        self.biased = frozenset().union(*(part.biased for part in parts))
        self.squared = frozenset().union(*(part.squared for part in parts))

    @property
    def labels(self) -> list[str]:
        """Those of the parts."""
        return self.parts[0].labels

    def _mean(self, key: Key) -> MeanOfShares | np.ndarray:
        """Return what a metric is the mean of, or how the folds weigh in it, float (K, 1)."""
        bases = [part.basis(key) for part in self.parts]
        if isinstance(bases[0], MeanOfShares):
            return bases[0]
        return np.array([[0.0 if isinstance(b, MeanOfShares) else float(b.n)] for b in bases])

    def _together(self, found: Sequence[Mapping[Key, np.ndarray]]) -> dict[Key, np.ndarray]:
        """Join values of the folds, scalars or (b,)."""
        out: dict[Key, np.ndarray] = {}
        later: dict[Key, MeanOfShares] = {}
        for key, mean in self._means.items():
            if not all(key in values for values in found):
                continue
            if isinstance(mean, MeanOfShares):
                later[key] = mean
                continue
            values = np.stack([np.atleast_1d(values[key]) for values in found])
            weights = np.where(np.isfinite(values), mean, 0.0)
            with np.errstate(invalid="ignore"):
                joined = np.sum(weights * np.nan_to_num(values), axis=0) / weights.sum(axis=0)
            out[key] = joined if np.ndim(found[0][key]) else joined[0]
        for key, mean in later.items():
            out[key] = mean_there(np.stack([out[part] for part in mean.of]))
        return out

    def replicates(self, weights: np.ndarray) -> Replicates:
        parts = zip(self.parts, self._rows, strict=True)
        return self._together([part.replicates(weights[rows]) for part, rows in parts])

    def basis(self, key: Key) -> Basis:
        bases = [part.basis(key) for part in self.parts]
        first = bases[0]
        if isinstance(first, MeanOfShares):
            return replace(first, groups=sum(b.groups for b in bases))
        if isinstance(first, Resampled):
            resampled = [b for b in bases if isinstance(b, Resampled)]
            return Resampled(
                sum(b.n for b in resampled),
                sum(b.groups for b in resampled),
                all(b.saturates for b in resampled),
            )
        shares = [b for b in bases if isinstance(b, Share)]
        hit, label, group, where = (
            np.concatenate([getattr(b, name) for b in shares])
            for name in ("hit", "label", "group", "where")
        )
        alike = pooled_correlation(hit.astype(float), label, group)
        return Share(hit, label, group, where, alike, first.others)

    @property
    def strata(self) -> np.ndarray:
        """Each fold keeps its number of groups of each class."""
        fold = np.concatenate([np.full(len(p.cases), i) for i, p in enumerate(self.parts)])
        kinds = int(self.cases.labels.max(initial=0)) + 1
        result: np.ndarray = np.unique(fold * kinds + self.cases.labels, return_inverse=True)[1]
        return result

    def spread(self, key: Key, other: Self | None) -> Spread | None:
        found = np.array([_counted(part, key) for part in self.parts])
        if other is not None:
            found[:, 0] = [_counted(part, key)[0] for part in other.parts] - found[:, 0]
        values, weights = found[np.isfinite(found[:, 0])].T
        return Spread.of(values, weights) if len(values) > 1 else None

    def spread_of(self, change: np.ndarray, where: np.ndarray) -> Spread | None:
        parts = [change[rows][where[rows]] for rows in self._rows if where[rows].any()]
        values, weights = np.array([(part.mean(), len(part)) for part in parts]).reshape(-1, 2).T
        return Spread.of(values, weights) if len(values) > 1 else None

    def has(self, k: int) -> np.ndarray:
        return np.concatenate([part.has(k) for part in self.parts])

    @staticmethod
    def asked_of(reference: Arm, found: Intervals) -> list[Endpoint]:
        assert isinstance(reference, Folds)
        return reference.parts[0].asked_of(reference, found)

    def changed(self, other: Self) -> np.ndarray:
        pairs = zip(self.parts, other.parts, strict=True)
        return np.concatenate([mine.changed(theirs) for mine, theirs in pairs])

    def aligned(self, reference: Self) -> Aligned | None:
        """Align each model to its own reference; the constants are the mean over the folds."""
        pairs = zip(self.parts, reference.parts, strict=True)
        found = [mine.aligned(theirs) for mine, theirs in pairs]
        there = [a for a in found if a is not None]
        if len(there) < len(found):
            return None
        offsets = np.mean([a.offsets for a in there], axis=0)
        return Aligned(offsets, np.concatenate([a.right for a in there]))

    @staticmethod
    def causes(
        before: Arm, after: Arm, aligned: Aligned, change: Intervals, level: float
    ) -> list[Decision]:
        assert isinstance(before, Folds)
        return before.parts[0].causes(before, after, aligned, change, level)

    def restricted(self, where: np.ndarray) -> Self:
        """Return the models on some of the cases; a fold without any is left out."""
        parts = [
            part.restricted(where[rows])
            for part, rows in zip(self.parts, self._rows, strict=True)
            if where[rows].any()
        ]
        return type(self)(parts)

    @property
    def critical(self) -> list[str]:
        return self.parts[0].critical

    @property
    def facts(self) -> dict[str, JsonValue]:
        return {"folds": len(self.parts)}

    @property
    def counts(self) -> dict[str, int]:
        return _summed([part.counts for part in self.parts])

    def class_counts(self, k: int) -> dict[str, int]:
        return _summed([part.class_counts(k) for part in self.parts])

    @classmethod
    def measure(
        cls, cases: Cases, cfg: Any, data: Prepared, predicted: Predicted, shift: np.ndarray
    ) -> Self:
        raise NotImplementedError(_ONE)

    def write(self, folder: Path) -> None:
        raise NotImplementedError(_ONE)

    @classmethod
    def read(cls, cases: Cases, cfg: Any, data: Prepared, folder: Path, safety: Safety) -> Self:
        raise NotImplementedError(_ONE)


def _counted(part: Arm, key: Key) -> tuple[float, float]:
    """Return a metric, NaN where the cases lack it, and how many of them are behind it."""
    basis = part.basis(key)
    if isinstance(basis, MeanOfShares):
        return part.value(key), len(part.cases)
    if not isinstance(basis, Share):
        return part.value(key), basis.n
    return float(basis.hit[basis.where].mean()) if basis.n else np.nan, basis.n


def _summed(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    return {name: sum(c[name] for c in counts) for name in counts[0]}
