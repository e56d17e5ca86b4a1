"""The tables of a segmentation's test cases: ``cases.csv``, ``lesions.csv``, ``reliability.csv``."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.core.io import atomic
from edgeward.statistics.calibration import CLASSIC_BINS

REGIONS = ("all", "boundary")


@dataclass(frozen=True)
class Overlap:
    """One class of one case: a row of ``cases.csv``.

    Attributes
    ----------
    index : of the case in the prepared data.
    class_number : of the class, from 0; its label in the masks is one more.
    truth, predicted, both : voxels in the mask, in the prediction, in both.
    dice, iou, surface_dice : shares; NaN where the mask lacks the class.
    hd95 : larger directed 95th percentile of surface distances, mm; NaN where the mask lacks the class.
    lesions, found : connected parts of the class in the mask, and those of them that are found.
    false_lesions : connected parts of the prediction that touch no voxel of the class.
    """

    index: int
    class_number: int
    truth: int
    predicted: int
    both: int
    dice: float
    iou: float
    hd95: float
    surface_dice: float
    lesions: int
    found: int
    false_lesions: int


@dataclass(frozen=True)
class Lesion:
    """A connected part of a class in the mask: a row of ``lesions.csv``; `size` in mm3 or pixels."""

    index: int
    class_number: int
    number: int
    size: float
    found: bool


@dataclass
class Tables:
    """All that is kept of a model's label maps and probabilities on a test set.

    Attributes
    ----------
    overlaps : case by case, the classes of each in order.
    lesions : case by case, in a fixed order.
    sums : float64 (n, 2, 15, 3): per case, region and bin of confidence, the voxels, the sum of their
        confidences, and the number of right ones.
    confusion : int64 (n_labels, n_labels), voxels by true and predicted label.
    """

    overlaps: list[Overlap] = field(default_factory=list)
    lesions: list[Lesion] = field(default_factory=list)
    sums: list[np.ndarray] = field(default_factory=list)
    confusion: np.ndarray | None = None

    def restricted(self, indices: np.ndarray) -> Tables:
        """Return what is kept of some cases, without a confusion, which is not kept case by case."""
        chosen = set(indices.tolist())
        cases = list(dict.fromkeys(row.index for row in self.overlaps))
        return Tables(
            [row for row in self.overlaps if row.index in chosen],
            [row for row in self.lesions if row.index in chosen],
            [part for index, part in zip(cases, self.sums, strict=True) if index in chosen],
        )

    def column(self, name: str, classes: int) -> np.ndarray:
        """Return a column of ``cases.csv``, float64 (n, classes)."""
        values = np.array([getattr(row, name) for row in self.overlaps], dtype=np.float64)
        return values.reshape(-1, classes)


def write_tables(folder: Path, tables: Tables, classes: Sequence[str]) -> None:
    """Write ``cases.csv``, ``lesions.csv`` and ``reliability.csv``."""
    _write(folder / "cases.csv", _header(Overlap), _cells(tables.overlaps, classes))
    _write(folder / "lesions.csv", _header(Lesion), _cells(tables.lesions, classes))
    indices = [row.index for row in tables.overlaps[:: len(classes)]]
    sums = (
        [index, region, b, int(count), repr(float(confidence)), int(correct)]
        for index, case in zip(indices, tables.sums, strict=True)
        for region, rows in zip(REGIONS, case, strict=True)
        for b, (count, confidence, correct) in enumerate(rows)
        if count
    )
    names = ["index", "region", "bin", "count", "confidence", "correct"]
    _write(folder / "reliability.csv", names, sums)


def read_tables(folder: Path, indices: Sequence[int], classes: Sequence[str]) -> Tables:
    """Read what `write_tables` wrote, less the confusion, and check that it is of these cases.

    Raises
    ------
    UserError
        If a table is missing, or of other cases or classes.
    """
    position = {int(index): n for n, index in enumerate(indices)}
    sums = np.zeros((len(indices), len(REGIONS), CLASSIC_BINS, 3))
    try:
        overlaps = [Overlap(**_parse(Overlap, r, classes)) for r in _rows(folder / "cases.csv")]
        lesions = [Lesion(**_parse(Lesion, r, classes)) for r in _rows(folder / "lesions.csv")]
        for row in _rows(folder / "reliability.csv"):
            at = position[int(row["index"])], REGIONS.index(row["region"]), int(row["bin"])
            sums[at] = float(row["count"]), float(row["confidence"]), float(row["correct"])
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(
            f"{folder}: the tables are of other cases or classes ({error}); assess again."
        ) from error
    expected = [(index, k) for index in position for k in range(len(classes))]
    if [(row.index, row.class_number) for row in overlaps] != expected:
        raise UserError(f"{folder / 'cases.csv'} is of another test set; assess again.")
    return Tables(overlaps, lesions, list(sums))


_COLUMN = {"class_number": "class"}
_READ: dict[str, Callable[[str], Any]] = {
    "int": int,
    "bool": lambda text: bool(int(text)),
    "float": lambda text: float(text) if text else float("nan"),
}


def _header(kind: type) -> list[str]:
    return [_COLUMN.get(f.name, f.name) for f in fields(kind)]


def _cells(rows: Iterable[Any], classes: Sequence[str]) -> Iterator[list[Any]]:
    """Turn rows into cells: classes by name, NaN empty, numbers so that they are read back exactly."""
    for row in rows:
        cells = astuple(replace(row, class_number=classes[row.class_number]))
        yield [
            int(c) if isinstance(c, bool) else "" if isinstance(c, float) and np.isnan(c) else c
            for c in cells
        ]


def _parse(kind: type, row: dict[str, str], classes: Sequence[str]) -> dict[str, Any]:
    named = row | {"class": str(classes.index(row["class"]))}
    return {f.name: _READ[str(f.type)](named[_COLUMN.get(f.name, f.name)]) for f in fields(kind)}


def _write(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with atomic(path) as temporary, temporary.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if not path.is_file():
        raise UserError(f"{path} is missing; assess the reference first.")
    with path.open(newline="") as handle:
        yield from csv.DictReader(handle)
