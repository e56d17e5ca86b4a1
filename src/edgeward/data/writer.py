"""Write a prepared folder: arrays appended batch by batch, shown to others only when whole."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

FILES = (
    "images.npy", "labels.npy", "split.csv", "calibration.csv", "masks.npy", "volumes.csv",
    "montage.png", "card.json",
)  # fmt: skip


@dataclass
class Part:
    """Some cases that were just written.

    Attributes
    ----------
    rows : int64 (b,), their positions in the listing.
    sums, squares : (b, c), sums over the pixels of value and squared value.
    pixels : int64 (b, n_labels), how many pixels have each label of the masks (b, 1: all, without masks).
    invalid : (name, reason) of cases that could not be written.
    """

    rows: np.ndarray
    sums: np.ndarray
    squares: np.ndarray
    pixels: np.ndarray
    invalid: list[tuple[str, str]]


class ArrayWriter:
    """An .npy file whose first axis grows; it holds no image in memory.

    The header of an .npy leaves room for the first axis to grow to 21 digits, so it is written
    again, at the same length, once the number of rows is known.
    """

    def __init__(self, path: Path, row: tuple[int, ...], dtype: type = np.uint8) -> None:
        self._file = path.open("wb")
        self._row = row
        self._dtype = np.dtype(dtype)
        self.n = 0
        self._header()

    def _header(self) -> None:
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (self.n, *self._row),
            },
        )

    def append(self, rows: np.ndarray) -> None:
        """Add rows (b, *row) of the file's dtype."""
        if rows.dtype != self._dtype or rows.shape[1:] != self._row:
            raise ValueError(
                f"{self._dtype} {self._row} expected, got {rows.dtype} {rows.shape[1:]}"
            )
        self._file.write(np.ascontiguousarray(rows).data)
        self.n += len(rows)

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.seek(0)
        self._header()
        self._file.close()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV with Unix line ends, so that its hash is the same everywhere."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


@contextmanager
def publishing(out: Path) -> Iterator[Path]:
    """Yield a work folder in `out`; its files replace those in `out` if the block succeeds.

    ``card.json``, without which a folder does not open, goes first and comes last, so a run
    that dies at any point leaves either the old set, the new set, or one that does not open.
    """
    out.mkdir(parents=True, exist_ok=True)
    partial = out / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        (out / FILES[-1]).unlink(missing_ok=True)
        for name in FILES:
            if (partial / name).exists():
                (partial / name).replace(out / name)
            else:
                (out / name).unlink(missing_ok=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
