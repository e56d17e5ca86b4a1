"""Scan orders: permutations, their inverses, and what each one reads when."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.models.ssm.orders import ORDERS, inverse, order_indices

grids = st.tuples(st.integers(1, 24), st.integers(1, 24))


@given(st.sampled_from(sorted(ORDERS)), grids)
def test_every_direction_reads_every_token_once_and_can_be_undone(
    name: str, grid: tuple[int, int]
) -> None:
    order = order_indices(name, *grid)
    length = grid[0] * grid[1]
    assert order.dtype == np.int64
    assert order.shape == (ORDERS[name], length)
    tokens = np.random.default_rng(0).normal(size=length)
    back = inverse(order)
    for k in range(len(order)):
        assert (np.sort(order[k]) == np.arange(length)).all()
        assert (tokens[order[k]][back[k]] == tokens).all()
    assert (inverse(back) == order).all()


@given(st.sampled_from(["bidirectional", "cross", "wavefront"]), grids)
def test_second_half_reads_backwards(name: str, grid: tuple[int, int]) -> None:
    order = order_indices(name, *grid)
    half = len(order) // 2
    assert (order[half:] == order[:half, ::-1]).all()


def test_orders_of_a_small_grid_are_those_of_the_definition() -> None:
    # 0 1 2
    # 3 4 5
    assert order_indices("raster", 2, 3).tolist() == [[0, 1, 2, 3, 4, 5]]
    assert order_indices("cross", 2, 3)[:2].tolist() == [[0, 1, 2, 3, 4, 5], [0, 3, 1, 4, 2, 5]]
    assert order_indices("wavefront", 2, 3)[:2].tolist() == [[0, 1, 3, 2, 4, 5], [2, 1, 5, 0, 4, 3]]


@given(st.sampled_from(sorted(ORDERS)), st.tuples(*[st.integers(1, 6)] * 3))
def test_volumes_have_orders_too(name: str, grid: tuple[int, int, int]) -> None:
    order = order_indices(name, *grid)
    assert len(order) == {"raster": 1, "bidirectional": 2, "cross": 6, "wavefront": 8}[name]
    assert (np.sort(order, axis=1) == np.arange(np.prod(grid))).all()
    if len(order) > 1:
        assert (order[len(order) // 2 :] == order[: len(order) // 2, ::-1]).all()
    if name == "cross":  # each axis is the fastest of one direction
        steps = [np.diff(np.unravel_index(row, grid), axis=1) for row in order[:3]]
        fastest = [2, 1, 0]
        for moves, axis in zip(steps, fastest, strict=True):
            if min(grid) > 1:
                assert (moves[axis] == 1).mean() >= 0.5
    if name == "wavefront":  # a direction from each corner, whose distance never falls
        corners = []
        for row in order:
            places = np.stack(np.unravel_index(row, grid))
            corner = places[:, :1]
            assert (np.diff(np.abs(places - corner).sum(0)) >= 0).all()
            corners.append(tuple(corner[:, 0]))
        assert len(set(corners)) == len(set(np.ndindex(*(min(side, 2) for side in grid))))


@given(grids)
def test_wavefront_reads_neighbours_above_and_left_first(grid: tuple[int, int]) -> None:
    height, width = grid
    step = inverse(order_indices("wavefront", height, width))[0].reshape(height, width)
    assert (np.diff(step, axis=0) > 0).all()
    assert (np.diff(step, axis=1) > 0).all()


def test_unknown_order_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=naming("'crss'", "'cross'", "wavefront", "order")):
        order_indices("crss", 2, 2)
    with pytest.raises(ValueError, match="0 x 3"):
        order_indices("cross", 0, 3)
