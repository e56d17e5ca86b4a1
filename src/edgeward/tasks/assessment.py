"""What every task's ``assess.py`` provides: `Arm`, one model on the test cases; all else is shared.

A task says how a case is measured and kept, which metrics follow from that and how they are resampled, what stands
behind each metric's interval, and which endpoints the verdict has. `interval` and `difference` do the same with
all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from pydantic import JsonValue

from edgeward.core import plugins
from edgeward.core.errors import UserError
from edgeward.core.io import atomic
from edgeward.data.store import Prepared, Split
from edgeward.records.base import Interval
from edgeward.records.safety import Curve, Decision, Reliability, Safety
from edgeward.statistics.folds import Spread
from edgeward.statistics.intervals import percentile, wilson
from edgeward.statistics.noninferiority import Endpoint
from edgeward.statistics.paired import PairedShare, paired_share
from edgeward.statistics.proportions import ABSENT, mean_of, proportion
from edgeward.tasks.base import Task

Predicted = Callable[[Split], Iterator[tuple[int, np.ndarray]]]
"""Split -> (index, logits) of each of its cases in order: float32 (n_labels,) or (n_labels, *spatial)."""

LOGITS = ("logits.npy", "val_logits.npy")  # of tasks whose cases are kept by their logits


def write_logits(folder: Path, test: np.ndarray, val: np.ndarray) -> None:
    """Keep what a model says of the test and of the validation images, float32 (n, c), where `read_logits` finds it."""
    for name, array in zip(LOGITS, (test, val), strict=True):
        with atomic(folder / name) as temporary:
            np.save(temporary, array)


def read_logits(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return what `write_logits` has kept.

    Raises
    ------
    UserError
        If one of the files is missing.
    """
    paths = [folder / name for name in LOGITS]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path} is missing; assess the reference first.")
    test, val = (np.load(path, allow_pickle=False) for path in paths)
    return test, val


class Key(NamedTuple):
    """A metric of all test cases, or of a subset of them; subsets are the classes so far."""

    metric: str
    subset: str | None = None

    def __str__(self) -> str:
        """Return its name in flat records."""
        return self.metric if self.subset is None else f"{self.metric}_{self.subset}"


Replicates = Mapping[Key, np.ndarray]
Intervals = Mapping[Key, Interval]


@dataclass(frozen=True)
class Cases:
    """The labelled cases that a model is judged by: as a rule the test cases.

    Attributes
    ----------
    indices, labels, groups : int64 (n,): place in the prepared data; class or stratum, which resamples keep;
        lesion or patient.
    classes, rare_classes : names.
    columns : what else is known of the cases: name -> str (n,), "" where it is not known.
    findings : int8 (n, classes), where a case may have several classes or none; see `edgeward.data.store.Prepared`.
    """

    indices: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    classes: list[str]
    rare_classes: list[str]
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    findings: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not len(self.indices) == len(self.labels) == len(self.groups):
            raise UserError(f"{len(self.labels)} labels, but {len(self.groups)} groups.")
        strange = [name for name in self.rare_classes if name not in self.classes]
        if strange:
            raise UserError(f"rare_classes names {strange}, which are not among {self.classes}.")

    @classmethod
    def of(cls, data: Prepared, split: Split = "test") -> Self:
        """Return the cases of a split of a prepared data set."""
        rows = data.indices(split)
        columns = {name: values[rows] for name, values in data.columns.items()}
        return cls(
            rows,
            data.labels[rows],
            data.groups[rows],
            data.classes,
            data.card.rare_classes,
            columns,
            None if data.findings is None else data.findings[rows],
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the cases of several sets as one."""
        first = parts[0]
        of = [part.findings for part in parts if part.findings is not None]
        return cls(
            np.concatenate([part.indices for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.groups for part in parts]),
            first.classes,
            first.rare_classes,
            {name: np.concatenate([p.columns[name] for p in parts]) for name in first.columns},
            np.concatenate(of) if of else None,
        )

    def restricted(self, where: np.ndarray) -> Self:
        """Return some of the cases, bool (n,)."""
        return replace(
            self,
            indices=self.indices[where],
            labels=self.labels[where],
            groups=self.groups[where],
            columns={name: values[where] for name, values in self.columns.items()},
            findings=None if self.findings is None else self.findings[where],
        )

    def __len__(self) -> int:
        return len(self.indices)

    def n_groups(self, where: np.ndarray | None = None) -> int:
        """Return the number of groups, or of those with a case in the mask `where`, bool (n,)."""
        return len(np.unique(self.groups if where is None else self.groups[where]))


@dataclass(frozen=True)
class Share:
    """Behind a metric: a share of units (images, lesions) with a hit; score intervals, paired unit by unit.

    Attributes
    ----------
    hit, label, group : bool, int, int, shape (m,), of all units of the kind.
    where : bool (m,): those that are counted.
    alike : correlation of hits within groups, over all units; see `edgeward.statistics.clusters`.
    others : whether the units that are not counted help to tell how alike *changes* within groups are.
    """

    resampled: ClassVar[bool] = False
    hit: np.ndarray
    label: np.ndarray
    group: np.ndarray
    where: np.ndarray
    alike: float
    others: bool = True

    @property
    def n(self) -> int:
        """Units."""
        return int(self.where.sum())

    @property
    def groups(self) -> int:
        """Groups with such units."""
        return len(np.unique(self.group[self.where]))

    def against(self, other: Share, level: float) -> PairedShare:
        """Compare with the share of another model on the same units, the later one."""
        seen = np.ones_like(self.where) if self.others else self.where
        return paired_share(
            self.hit[seen], other.hit[seen], self.label[seen], self.group[seen], level, self.where[seen]
        )  # fmt: skip

    def discordance(self, other: Share) -> float:
        """Return the share of all units that only one of two models hits."""
        return float(np.mean(self.hit != other.hit))


@dataclass(frozen=True)
class MeanOfShares:
    """Behind a metric: the mean of shares; `groups` of the scarcest class."""

    resampled: ClassVar[bool] = False
    of: tuple[Key, ...]
    groups: int


@dataclass(frozen=True)
class Resampled:
    """Behind a metric: all else; percentiles of the bootstrap.

    Attributes
    ----------
    n : cases. groups : independent groups; of the scarcest class if it is a mean over classes.
    saturates : whether 1 is a value that no resample can lower.
    """

    resampled: ClassVar[bool] = True
    n: int
    groups: int
    saturates: bool = False


Basis = Share | MeanOfShares | Resampled


class Aligned(NamedTuple):
    """Decisions with borders aligned: the constants added to the logits, float (c,), and which cases are right, bool (n,), or which are
    right about each class, bool (n, c)."""

    offsets: np.ndarray
    right: np.ndarray

    def hit(self, k: int) -> np.ndarray:
        """Return which cases are right about class k, bool (n,)."""
        return self.right if self.right.ndim == 1 else self.right[:, k]


class Arm(ABC):
    """One model on the test cases.

    Attributes
    ----------
    task : its facts.
    cases : the test cases. cfg : the section of the task in ``safety``.
    estimates : on the scale of the replicates; see `edgeward.statistics.bootstrap.Arm`, also for `biased` and `squared`.
    facts : what else was found of the model, e.g. its temperature.
    counts : what is counted of the test set besides cases and groups.
    confusion : int64, by true (rows) and decided label, in the order of `labels`.
    """

    task: Task
    cases: Cases
    cfg: Any
    estimates: dict[Key, np.ndarray]
    biased: frozenset[Key] = frozenset()
    squared: frozenset[Key] = frozenset()
    confusion: np.ndarray

    @classmethod
    @abstractmethod
    def measure(
        cls, cases: Cases, cfg: Any, data: Prepared, predicted: Predicted, shift: np.ndarray
    ) -> Self:
        """Measure a model, case by case.

        Parameters
        ----------
        shift : float (n_labels,), added to the logits for probabilities (not for the decision).
        """

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write what is kept of every case: the files `Task.per_case_outputs`."""

    @classmethod
    @abstractmethod
    def read(cls, cases: Cases, cfg: Any, data: Prepared, folder: Path, safety: Safety) -> Self:
        """Read what `write` wrote of these cases of the data.

        Raises
        ------
        UserError
            If a file is missing, or of other cases.
        """

    @classmethod
    def measured(cls, cfg: Any) -> dict[str, JsonValue]:
        """Return the settings that the files depend on."""
        del cfg
        return {}

    def restricted(self, where: np.ndarray) -> Self:
        """Return the model on some of the cases, bool (n,).

        Raises
        ------
        UserError
            If the task cannot.
        """
        del where
        raise UserError(
            f"task '{self.task.name}' is not judged in subgroups; leave data.strata empty."
        )

    @abstractmethod
    def replicates(self, weights: np.ndarray) -> Replicates:
        """Return the metrics under weights of the cases, float32 (n, b), the resamples on the last axis."""

    @abstractmethod
    def basis(self, key: Key) -> Basis:
        """Return what stands behind a metric."""

    @abstractmethod
    def has(self, k: int) -> np.ndarray:
        """Return which cases have class k, bool (n,)."""

    @staticmethod
    @abstractmethod
    def asked_of(reference: Arm, found: Intervals) -> list[Endpoint]:
        """Return what is asked of compressed models.

        Parameters
        ----------
        reference : a model of the task, or several that share the cases (`edgeward.safety.folds`). found : its intervals.
        """

    def endpoints(self, found: Intervals) -> list[Endpoint]:
        """Return what is asked of compressed models, if this is the reference; `found` are its intervals."""
        return self.asked_of(self, found)

    @abstractmethod
    def changed(self, other: Self) -> np.ndarray:
        """Return how much of each case's decision another model decides differently: bool (n,), or float, a share."""

    def aligned(self, reference: Self) -> Aligned | None:
        """Return what it would decide with the borders of the reference; None: nothing can be said."""
        del reference
        return None

    @staticmethod
    def causes(
        before: Arm, after: Arm, aligned: Aligned, change: Intervals, level: float
    ) -> list[Decision]:
        """Return why the compressed model decides each class differently; by default nothing is said.

        Parameters
        ----------
        aligned : of the compressed model. change : differences of the metrics, with their intervals.
        """
        del before, after, aligned, change, level
        return []

    @property
    def strata(self) -> np.ndarray:
        """What resamples keep the number of groups of: int64 (n,)."""
        return self.cases.labels

    def spread(self, key: Key, other: Self | None) -> Spread | None:
        """Return how much folds differ in a metric, or in another model's difference to this one; None: there are no folds."""
        del key, other
        return None

    def spread_of(self, change: np.ndarray, where: np.ndarray) -> Spread | None:
        """Return how much folds differ in the mean of a change, float (n,), over some cases, bool (n,); None: there are no folds."""
        del change, where
        return None

    def reliability(self, replicates: Replicates, level: float) -> dict[str, Reliability]:
        """Return a reliability diagram of each region of the cases (or of "all")."""
        del replicates, level
        return {}

    def selective(self) -> dict[str, list[float]]:
        """Return the curve of risk (share decided wrongly) over coverage (share decided, the most confident first)."""
        return {}

    def curves(self) -> dict[str, Curve]:
        """Return the ROC and precision-recall curves of the classes."""
        return {}

    @property
    def facts(self) -> dict[str, JsonValue]:
        """What else was found of the model, e.g. its temperature."""
        return {}

    @property
    def critical(self) -> list[str]:
        """The classes in which a missed case harms the patient."""
        return []

    @property
    def counts(self) -> dict[str, int]:
        """What is counted of the test set besides cases and groups."""
        return {}

    @property
    def labels(self) -> list[str]:
        """What can be decided of a case, or of a part of it."""
        return ["background", *self.cases.classes] if self.task.dense else self.cases.classes

    def class_counts(self, k: int) -> dict[str, int]:
        """Return the same of class k."""
        del k
        return {}

    @classmethod
    def exemplars(
        cls,
        members: Mapping[tuple[str, str], list[Self]],
        references: Mapping[str, str],
        data: Prepared,
        seed: int,
    ) -> list[dict[str, JsonValue]]:
        """Return per compressed recipe the images that compression changes; see `edgeward.safety.pooled.pool`."""
        del members, references, data, seed
        return []

    def value(self, key: Key) -> float:
        """Return an estimate on its reported scale."""
        found = float(self.estimates[key])
        return float(np.sqrt(max(found, 0.0))) if key in self.squared else found

    @property
    def keys(self) -> list[Key]:
        """All metrics, of all cases and of every class."""
        return [
            *(Key(metric.name) for metric in self.task.metrics),
            *(Key(m.name, name) for name in self.cases.classes for m in self.task.class_metrics),
        ]


def arm_of(task: str, where: str) -> type[Arm]:
    """Return what a task makes of a model; `where` names the file that it stands in, for the error."""
    found: type[Arm] = plugins.load("edgeward.tasks", task, "assess", where).Arm
    return found


def keyed(
    values: Mapping[str, np.ndarray], per_class: Mapping[str, np.ndarray], classes: list[str]
) -> dict[Key, np.ndarray]:
    """Name values of all cases, and of classes, shape (classes, ...)."""
    out = {Key(name): value for name, value in values.items()}
    for name, value in per_class.items():
        out |= {Key(name, of): value[k] for k, of in enumerate(classes)}
    return out


def mean_there(values: np.ndarray) -> np.ndarray:
    """Average (classes, ...) over the classes that are there (finite); NaN if none is."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        result: np.ndarray = np.where(there, values, 0).sum(axis=0) / there.sum(axis=0)
    return result


def interval(arm: Arm, key: Key, replicates: Replicates, level: float) -> Interval:
    """Return a metric with its interval."""
    found = _interval(arm, key, replicates, level)
    spread = arm.spread(key, None)
    if spread is None:
        return found
    share = arm.task.metric(key.metric).share
    return spread.widen(found, level, 0.0 if share else -np.inf, 1.0 if share else np.inf)


def _interval(arm: Arm, key: Key, replicates: Replicates, level: float) -> Interval:
    basis = arm.basis(key)
    if isinstance(basis, Share):
        return proportion(basis.hit[basis.where], basis.group[basis.where], basis.alike, level)
    if isinstance(basis, MeanOfShares):
        parts = [_interval(arm, part, replicates, level) for part in basis.of]
        return mean_of(parts, "Wilson intervals per class")
    estimate = arm.value(key)
    if np.isnan(estimate):
        return ABSENT
    if basis.saturates and estimate == 1.0:
        low = wilson(basis.groups, basis.groups, level)[0]
        method = "Wilson limit over groups, as no resample differs"
        return Interval.of(1.0, low, 1.0, n=basis.n, method=method)
    low, high = percentile(replicates[key], level, basis.groups)
    return Interval.of(estimate, low, high, n=basis.n, method="clustered bootstrap")


def difference(
    before: Arm, after: Arm, key: Key, replicates: tuple[Replicates, Replicates], level: float
) -> Interval:
    """Return compressed - reference of a metric with its interval.

    Shares are compared unit by unit, with score intervals and the limits of the bootstrap beside them in
    `bootstrap`; everything else by the paired bootstrap alone.

    Parameters
    ----------
    replicates : of both arms, on the same resamples.
    """
    found = _difference(before, after, key, replicates, level)
    spread = before.spread(key, after)
    if spread is None:
        return found
    reach = 1.0 if before.task.metric(key.metric).share else np.inf
    return spread.widen(found, level, -reach, reach)


def _difference(
    before: Arm, after: Arm, key: Key, replicates: tuple[Replicates, Replicates], level: float
) -> Interval:
    basis, found = before.basis(key), ABSENT
    limits = (
        percentile(replicates[1][key] - replicates[0][key], level, basis.groups)
        if key in replicates[0]
        else None
    )
    if isinstance(basis, Share):
        other = after.basis(key)
        assert isinstance(other, Share)
        found = basis.against(other, level).interval
    elif isinstance(basis, MeanOfShares):
        parts = [_difference(before, after, part, replicates, level) for part in basis.of]
        found = mean_of(parts, "Tango score intervals per class")
    elif limits and not np.isnan(change := after.value(key) - before.value(key)):
        return Interval.of(change, *limits, n=basis.n, method="clustered bootstrap, paired")
    if limits is None or not found.known:
        return found
    return Interval(**found.content(), bootstrap=limits)
