"""What is said of grades as a whole: agreement, distance, order."""

from __future__ import annotations

import numpy as np


def kappa(table: np.ndarray) -> np.ndarray:
    """Return Cohen's kappa with quadratic weights of tables, float (K, K, ...) -> (...); NaN where chance alone agrees always.

    ``1 - sum w O / sum w E`` with ``w = (i - j)**2`` and E the product of the margins over the total: Cohen, Weighted kappa,
    Psychological Bulletin 70 (1968), eq. 8.

    Parameters
    ----------
    table : weight of the cases by true (first axis) and decided grade.
    """
    grades = np.arange(len(table))
    w = (grades[:, None] - grades) ** 2
    w = w.reshape(*w.shape, *[1] * (table.ndim - 2))
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True)
    total = table.sum(axis=(0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        by_chance = (w * expected).sum(axis=(0, 1)) / total
        result: np.ndarray = np.where(
            by_chance > 0, 1 - (w * table).sum(axis=(0, 1)) / by_chance, np.nan
        )
    return result


def mean_absolute_error(table: np.ndarray) -> np.ndarray:
    """Return by how many grades decisions are off on average, of tables as in `kappa`."""
    grades = np.arange(len(table))
    off = abs(grades[:, None] - grades).reshape(*table.shape[:2], *[1] * (table.ndim - 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        result: np.ndarray = (off * table).sum(axis=(0, 1)) / table.sum(axis=(0, 1))
    return result


def decide(called: np.ndarray) -> np.ndarray:
    """Return grades, int64 (n,), from what each case is called beyond, bool (n, K - 1): the number of steps (Niu et al. 2016, eq. 3)."""
    result: np.ndarray = called.sum(axis=1).astype(np.int64)
    return result


def disordered(called: np.ndarray) -> np.ndarray:
    """Return which cases are called beyond a step but not beyond a lower one, bool (n,)."""
    result: np.ndarray = (called[:, 1:] & ~called[:, :-1]).any(axis=1)
    return result
