"""Both models on corrupted copies of the test images: does compression lose more where images are worse?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from edgeward.data.corruption import Corruption, corrupt
from edgeward.data.store import Prepared, Split
from edgeward.records.base import Interval
from edgeward.records.safety import CorruptionRow
from edgeward.safety.config import StudyConfig
from edgeward.statistics.bootstrap import resample_mean
from edgeward.statistics.intervals import percentile
from edgeward.tasks.assessment import Arm, Key, Predicted, Share, difference, interval

Change = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From images, uint8 (b, h, w, c), and their indices, (b,), to changed images."""
LEAST = 100  # images of each class that are taken, if there are as many


class Shift(NamedTuple):
    """A kind of corruption and its severity, 1 to 5."""

    kind: Corruption
    severity: int

    @property
    def folder(self) -> str:
        """Name of the folder of what is kept of every case."""
        return f"shift/{self.kind}_{self.severity}"


def shifts(cfg: StudyConfig) -> list[Shift]:
    """List the corruptions that the configuration asks for."""
    return [Shift(kind, severity) for kind in cfg.corruptions for severity in cfg.severities]


def chosen(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Choose about `most` cases, bool (n,): each label by its share, and at least `LEAST` of each where there are so many."""
    rng, out = np.random.default_rng(seed), np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        wanted = max(LEAST, round(most * len(mine) / len(labels)))
        out[rng.permutation(mine)[:wanted]] = True
    return out


def measure(
    arm: Arm, cfg: StudyConfig, section: Any, data: Prepared, shift: np.ndarray,
    predict: Callable[[np.ndarray, Change], Predicted],
) -> dict[Shift, Arm]:  # fmt: skip
    """Measure a model on corrupted copies of some of its test cases.

    Parameters
    ----------
    arm : the model on all cases as they are. shift : added to logits, see `Arm.measure`.
    predict : from the indices of cases, and a change of images (b, h, w, c) with their indices, to what predicts them.
    """
    found: dict[Shift, Arm] = {}
    if not cfg.corruptions:
        return found
    cases = arm.cases.restricted(chosen(arm.cases.labels, cfg.corrupted_images, cfg.seed))
    for of in shifts(cfg):

        def change(images: np.ndarray, indices: np.ndarray, of: Shift = of) -> np.ndarray:
            return corrupt(images, indices, of.kind, of.severity, cfg.seed)

        found[of] = arm.measure(cases, section, data, predict(cases.indices, change), shift)
    return found


def compare(
    clean: tuple[Arm, Arm], shifted: Mapping[Shift, tuple[Arm, Arm]], cfg: StudyConfig
) -> list[CorruptionRow]:
    """Compare two models on each corruption, and that difference with the one on the same images as they are.

    Parameters
    ----------
    clean : reference and compressed model on all test cases; shifted : on corrupted copies of some of them.
    """
    if not shifted:
        return []
    task, level = clean[0].task, cfg.confidence_level
    key = Key(task.strata[0])
    rows = []
    for of, (before, after) in shifted.items():
        where = np.isin(clean[0].cases.indices, before.cases.indices)
        same = clean[0].restricted(where), clean[1].restricted(where)
        rows.append(
            CorruptionRow(
                corruption=of.kind,
                severity=of.severity,
                metric=str(key),
                n=len(before.cases),
                n_groups=before.cases.n_groups(),
                clean=difference(*same, key, ({}, {}), level),
                reference=interval(before, key, {}, level),
                compressed=interval(after, key, {}, level),
                difference=difference(before, after, key, ({}, {}), level),
                beyond_clean=_beyond(same, (before, after), key, cfg),
            )
        )
    return rows


def _beyond(
    clean: tuple[Arm, Arm], shifted: tuple[Arm, Arm], key: Key, cfg: StudyConfig
) -> Interval:
    """Return how much more is lost than on the same images as they are, by the clustered bootstrap of cases."""

    def hits(arm: Arm) -> np.ndarray:
        basis = arm.basis(key)
        assert isinstance(basis, Share)
        return basis.hit.astype(float)

    change = (hits(shifted[1]) - hits(shifted[0])) - (hits(clean[1]) - hits(clean[0]))
    cases = shifted[0].cases
    drawn = resample_mean(change, cases.labels, cases.groups, cfg.resamples, cfg.seed)
    limits = percentile(drawn, cfg.confidence_level, cases.n_groups())
    return Interval.of(
        float(change.mean()), *limits, n=len(change), method="clustered bootstrap, paired"
    )


def remembered(predicted: Predicted) -> Predicted:
    """Return what predicts the validation split once, and gives the same again when asked again."""
    kept: dict[Split, list[tuple[int, np.ndarray]]] = {}

    def again(split: Split) -> Iterator[tuple[int, np.ndarray]]:
        if split != "val":
            return predicted(split)
        if split not in kept:
            kept[split] = list(predicted(split))
        return iter(kept[split])

    return again
