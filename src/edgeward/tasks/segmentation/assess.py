"""A model that labels every pixel or voxel, on the test cases."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from pydantic import JsonValue

from edgeward.core.errors import UserError
from edgeward.core.io import atomic
from edgeward.data.store import Prepared
from edgeward.records.safety import Reliability, Safety
from edgeward.statistics.clusters import pooled_correlation
from edgeward.statistics.intervals import percentile
from edgeward.statistics.noninferiority import Endpoint
from edgeward.tasks import assessment
from edgeward.tasks.assessment import (
    Basis,
    Cases,
    Intervals,
    Key,
    Predicted,
    Replicates,
    Resampled,
    Share,
    keyed,
)
from edgeward.tasks.segmentation.arm import ECES, SENSITIVITIES, SQUARED, Metrics
from edgeward.tasks.segmentation.cases import measure
from edgeward.tasks.segmentation.config import Safety as Config
from edgeward.tasks.segmentation.tables import REGIONS, Tables, read_tables, write_tables
from edgeward.tasks.segmentation.task import TASK

_BINS = Key("accuracy_per_bin")
_FILE = "predictions.npz"


class LabelMaps(NamedTuple):
    """The label maps of all cases, uint8, in a row, and the shape of each, int64 (n, dims)."""

    labels: np.ndarray
    shapes: np.ndarray

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read them from ``predictions.npz``."""
        with np.load(path, allow_pickle=False) as content:
            return cls(content["labels"], content["shape"])


class Arm(assessment.Arm):
    """Label maps of one model, and how sure it is of them.

    Parameters
    ----------
    tables : of the cases, in order.
    maps : what it predicts, or the file that holds it, which is read if it is asked for.
    """

    task = TASK

    def __init__(self, cases: Cases, cfg: Config, tables: Tables, maps: LabelMaps | Path) -> None:
        self.cases, self.cfg, self.tables, self._maps = cases, cfg, tables, maps
        self.metrics = m = Metrics(tables, cases, cfg.small_lesion)
        self.estimates = keyed(m.estimates, m.class_estimates, cases.classes)
        self.biased = frozenset(Key(name) for name in ECES)
        self.squared = frozenset(Key(name) for name in SQUARED)
        if tables.confusion is not None:
            self.confusion = tables.confusion
        group_of = dict(zip(cases.indices.tolist(), cases.groups.tolist(), strict=True))
        rows = tables.lesions
        self._class = np.array([row.class_number for row in rows], dtype=np.int64)
        self._group = np.array([group_of[row.index] for row in rows], dtype=np.int64)
        self._found = np.array([row.found for row in rows], dtype=bool)
        limit = -np.inf if cfg.small_lesion is None else cfg.small_lesion
        self._small = np.array([row.size <= limit for row in rows], dtype=bool)

    @cached_property
    def maps(self) -> LabelMaps:
        """What it predicts."""
        return LabelMaps.read(self._maps) if isinstance(self._maps, Path) else self._maps

    @cached_property
    def _alike(self) -> float:
        return pooled_correlation(self._found.astype(float), self._class, self._group)

    @classmethod
    def measure(
        cls, cases: Cases, cfg: Config, data: Prepared, predicted: Predicted, shift: np.ndarray
    ) -> Self:
        tables, maps = Tables(), []
        for index, logits in predicted("test"):
            mask = data.case(index)[1]
            maps.append(measure(tables, index, logits, mask, data.spacing(index), shift, cfg))
        labels = np.concatenate([m.ravel() for m in maps])
        shapes = np.array([m.shape for m in maps], dtype=np.int64)
        return cls(cases, cfg, tables, LabelMaps(labels, shapes))

    def write(self, folder: Path) -> None:
        write_tables(folder, self.tables, self.cases.classes)
        labels, shapes = self.maps
        with atomic(folder / _FILE) as temporary, temporary.open("wb") as handle:
            np.savez_compressed(handle, index=self.cases.indices, shape=shapes, labels=labels)

    @classmethod
    def read(cls, cases: Cases, cfg: Config, data: Prepared, folder: Path, safety: Safety) -> Self:
        del data, safety
        tables = read_tables(folder, cases.indices.tolist(), cases.classes)
        path = folder / _FILE
        if not path.is_file():
            raise UserError(f"{path} is missing; assess the reference first.")
        return cls(cases, cfg, tables, path)

    @classmethod
    def measured(cls, cfg: Config) -> dict[str, JsonValue]:
        return cfg.model_dump(include={"tolerance", "boundary", "detected_share"})

    def restricted(self, where: np.ndarray) -> Self:
        cases = self.cases.restricted(where)
        return type(self)(cases, self.cfg, self.tables.restricted(cases.indices), self._maps)

    def replicates(self, weights: np.ndarray) -> Replicates:
        return keyed(*self.metrics.replicates(weights), self.cases.classes)

    def has(self, k: int) -> np.ndarray:
        return self.metrics.present[:, k]

    def _lesions(self, metric: str, k: int | None) -> np.ndarray:
        """Return the lesions behind a sensitivity, bool (m,)."""
        where = self._small if metric.startswith("small") else np.ones_like(self._found)
        return where if k is None else where & (self._class == k)

    def basis(self, key: Key) -> Basis:
        k = None if key.subset is None else self.cases.classes.index(key.subset)
        if key.metric in SENSITIVITIES:
            where = self._lesions(key.metric, k)
            return Share(self._found, self._class, self._group, where, self._alike, others=False)
        if key.metric in ECES:
            return Resampled(len(self.cases), self.cases.n_groups())
        has = self.metrics.ratios[key.metric][1] > 0
        mine = has.any(axis=1) if k is None else has[:, k]
        if key.metric == "false_lesions":
            groups = self.cases.n_groups()
        elif k is not None:
            groups = self.cases.n_groups(has[:, k])
        else:
            groups = min((self.cases.n_groups(h) for h in has.T if h.any()), default=0)
        return Resampled(int(mine.sum()), groups)

    @staticmethod
    def asked_of(reference: assessment.Arm, found: Intervals) -> list[Endpoint]:
        """Return Dice (mean and per class), small lesions, and calibration (all voxels, boundary band)."""
        cases, margins, asked = reference.cases, reference.cfg.margins, reference.cfg.evidence
        rows = []
        for k, name in enumerate(cases.classes):
            n, groups = int(reference.has(k).sum()), cases.n_groups(reference.has(k))
            doubts, high = [], found[Key("dice", name)].high
            if not n:
                doubts.append("no test case holds it")
            elif groups < asked.groups:
                doubts.append(f"{groups} groups are too few, needed {asked.groups}")
            hopeless = high is not None and high < asked.reference_dice
            if hopeless:
                doubts.append(
                    f"the reference hardly finds it (Dice at most {high:.2f}), so there is nothing to "
                    "lose and a pass would be no evidence"
                )
            rows.append(
                Endpoint(
                    f"Dice of {name}", "dice", margins.dice_per_class, "higher", n, groups, name,
                    tuple(doubts), hopeless,
                )
            )  # fmt: skip
        if reference.cfg.small_lesion is not None:
            rows.append(Arm._small_lesions(reference, found))
        total = cases.n_groups()
        few = total < asked.groups
        too_few = [f"{total} groups are too few, needed {asked.groups}"] if few else []
        absent = [name for k, name in enumerate(cases.classes) if not reference.has(k).any()]
        lacks = [f"the test split lacks {', '.join(absent)}"] if absent else []
        for name, metric, margin in (
            ("mean Dice", "dice", margins.dice),
            ("RMS-ECE", "ece", margins.ece),
            ("boundary RMS-ECE", "boundary_ece", margins.boundary_ece),
        ):
            groups = reference.basis(Key(metric)).groups
            more = lacks if metric == "dice" else []
            better = TASK.metric(metric).better
            why = (*too_few, *more)
            rows.append(Endpoint(name, metric, margin, better, len(cases), groups, doubts=why))
        return rows

    @staticmethod
    def _small_lesions(reference: assessment.Arm, found: Intervals) -> Endpoint:
        key = Key("small_lesion_sensitivity")
        share, high = reference.basis(key), found[key].high
        assert isinstance(share, Share)
        doubts: tuple[str, ...] = ()
        if not share.n:
            doubts = ("the test split holds no small lesion",)
        elif high is not None and high < reference.cfg.evidence.reference_dice:
            doubts = (
                f"the reference hardly finds any (at most {high:.2f} of them), so there is nothing "
                "to lose and a pass would be no evidence",
            )
        return Endpoint(
            "sensitivity to small lesions", key.metric, reference.cfg.margins.small_lesion_sensitivity,
            "higher", share.n, share.groups, None, doubts, bool(doubts), "small lesions",
        )  # fmt: skip

    def changed(self, other: Self) -> np.ndarray:
        """Return the share of each case's voxels that the two label differently, float64 (n,)."""
        sizes = self.maps.shapes.prod(axis=1)
        starts = np.r_[0, np.cumsum(sizes)[:-1]]
        counts = np.add.reduceat(self.maps.labels != other.maps.labels, starts, dtype=np.int64)
        result: np.ndarray = counts / sizes
        return result

    def reliability(self, replicates: Replicates, level: float) -> dict[str, Reliability]:
        """Return the diagram of each region over the bins that hold voxels."""
        n, out = self.cases.n_groups(), {}
        for r, region in enumerate(REGIONS):
            sums = self.metrics.sums[:, r].sum(axis=0)
            bins = np.flatnonzero(sums[:, 0])
            count, confidence, correct = sums[bins].T
            ends = [percentile(replicates[_BINS][r, b], level, n) for b in bins]
            out[region] = Reliability(
                confidence=(confidence / count).tolist(),
                accuracy=(correct / count).tolist(),
                low=[low for low, _ in ends],
                high=[high for _, high in ends],
                count=count.astype(int).tolist(),
            )
        return out

    @property
    def counts(self) -> dict[str, int]:
        return {"lesions": len(self._found), "small_lesions": int(self._small.sum())}

    def class_counts(self, k: int) -> dict[str, int]:
        return {
            "lesions": int(self._lesions("lesion_sensitivity", k).sum()),
            "small_lesions": int(self._lesions("small_lesion_sensitivity", k).sum()),
        }
