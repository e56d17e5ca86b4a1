"""Scan orders: in which sequences the tokens of an image are read.

A token's number is its place in row-major order. An order of K directions over h x w tokens is an
array [K, L], L = h w, whose rows are permutations: entry [k, t] is the token that direction k reads
at step t.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeward.core.errors import unknown

Indices = npt.NDArray[np.int64]

ORDERS: dict[str, int] = {"raster": 1, "bidirectional": 2, "cross": 4, "wavefront": 4}
"""Names of the orders and their numbers of directions."""


def order_indices(name: str, height: int, width: int) -> Indices:
    """Return the order as int64 [K, L].

    Parameters
    ----------
    name : of `ORDERS`.
        ``raster``: rows, left to right. ``bidirectional``: raster and its reverse. ``cross``: rows,
        columns, and the reverse of each (SS2D of VMamba, arXiv 2401.10166, section 4.2).
        ``wavefront``: diagonals i + j = 0, 1, .., then those of the mirrored image, and the reverse
        of each; all tokens of one diagonal are equally far from the corner.
    height, width : of the token grid, at least 1.

    Raises
    ------
    UserError
        If there is no such order.
    ValueError
        If the grid is empty.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a grid of {height} x {width} tokens has nothing to scan")
    tokens = np.arange(height * width, dtype=np.int64)
    if name == "raster":
        return tokens[None]
    if name == "bidirectional":
        return _both_ways(tokens)
    if name == "cross":
        return _both_ways(tokens, tokens.reshape(height, width).T.ravel())
    if name == "wavefront":
        row, column = np.divmod(tokens, width)
        return _both_ways(
            np.lexsort((row, row + column)), np.lexsort((row, row + width - 1 - column))
        )
    raise unknown("scan order", name, ORDERS, "the option `order` of the model's YAML")


def _both_ways(*forward: npt.NDArray[np.int64]) -> Indices:
    stacked = np.stack(forward).astype(np.int64)
    return np.concatenate([stacked, stacked[:, ::-1]])


def inverse(indices: Indices) -> Indices:
    """Return the inverse permutations, int64 [K, L]: the step at which direction k reads a token."""
    return np.argsort(indices, axis=1, kind="stable").astype(np.int64)
