"""Scan orders: in which sequences the tokens of an image or a volume are read.

A token's number is its place in row-major order. An order of K directions over a grid of L tokens is
an array [K, L] whose rows are permutations: entry [k, t] is the token that direction k reads at
step t.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

from edgeward.core.errors import unknown

Indices = npt.NDArray[np.int64]

ORDERS: dict[str, int] = {"raster": 1, "bidirectional": 2, "cross": 4, "wavefront": 4}
"""Names of the orders and their numbers of directions over an image."""


def order_indices(name: str, *grid: int) -> Indices:
    """Return the order as int64 [K, L].

    Parameters
    ----------
    name : of `ORDERS`.
        ``raster``: rows, left to right. ``bidirectional``: raster and its reverse. ``cross``: rows,
        columns, and the reverse of each (SS2D of VMamba, arXiv 2401.10166, section 4.2); of a
        volume, raster with each axis as the fastest in turn, and the reverses: 6 directions.
        ``wavefront``: diagonals i + j = 0, 1, .., then those of the mirrored image, and the reverse
        of each; all tokens of one diagonal are equally far from the corner. Of a volume, planes
        from each of its 8 corners.
    grid : sides of the token grid, (height, width) or (depth, height, width), at least 1.

    Raises
    ------
    UserError
        If there is no such order.
    ValueError
        If the grid is empty.
    """
    if min(grid) < 1:
        raise ValueError(f"a grid of {' x '.join(map(str, grid))} tokens has nothing to scan")
    tokens = np.arange(math.prod(grid), dtype=np.int64)
    if name == "raster":
        return tokens[None]
    if name == "bidirectional":
        return _both_ways(tokens)
    if name == "cross":
        axes = range(len(grid))
        turned = [[*axes[-k:], *axes[:-k]] if k else list(axes) for k in axes]
        return _both_ways(*(tokens.reshape(grid).transpose(axes).ravel() for axes in turned))
    if name == "wavefront":
        places = np.unravel_index(tokens, grid)
        fronts = []
        for mirrored in itertools.product([False, True], repeat=len(grid) - 1):
            # From the corner at the start of the first axis; the last axes are mirrored first.
            far = places[0].copy()
            for place, side, mirror in zip(places[1:], grid[1:], mirrored[::-1], strict=True):
                far += side - 1 - place if mirror else place
            fronts.append(np.lexsort((*places[-2::-1], far)))
        return _both_ways(*fronts)
    raise unknown("scan order", name, ORDERS, "the option `order` of the model's YAML")


def _both_ways(*forward: npt.NDArray[np.int64]) -> Indices:
    stacked = np.stack(forward).astype(np.int64)
    return np.concatenate([stacked, stacked[:, ::-1]])


def inverse(indices: Indices) -> Indices:
    """Return the inverse permutations, int64 [K, L]: the step at which direction k reads a token."""
    return np.argsort(indices, axis=1, kind="stable").astype(np.int64)
