"""Splits keep groups whole and classes near their shares; the calibration set is stratified."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.data.split import calibration_set, stratified_group_split
from edgeward.data.store import SPLITS

NAMES = [f"c{i}" for i in range(8)]


@st.composite
def grouped(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels and groups where each group has one class."""
    labels, groups, g = [], [], 0
    for c in range(draw(st.integers(1, 4))):
        for size in draw(st.lists(st.integers(1, 6), min_size=3, max_size=40)):
            labels += [c] * size
            groups += [g] * size
            g += 1
    return np.array(labels), np.array(groups)


@settings(max_examples=150, deadline=None)
@given(
    grouped(),
    st.sampled_from([(0.6, 0.2, 0.2), (0.65, 0.1, 0.25), (0.34, 0.33, 0.33)]),
    st.integers(0, 99),
)
def test_shares_hold_to_within_a_group(
    data: tuple[np.ndarray, np.ndarray], shares: tuple[float, float, float], seed: int
) -> None:
    labels, groups = data
    splits = stratified_group_split(labels, groups, shares, seed, NAMES)
    for g in np.unique(groups):
        assert len(set(splits[groups == g])) == 1
    for c in np.unique(labels):
        own = labels == c
        largest = np.bincount(groups[own]).max()
        for split, share in zip(SPLITS, shares, strict=True):
            excess = np.sum(splits[own] == split) - share * own.sum()
            assert -2 * largest <= excess <= largest
            assert np.any(splits[own] == split)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.integers(30, 200))
def test_groups_of_several_classes_stay_whole(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, 3, n), rng.integers(0, n // 2, n)
    assume(all(len(set(groups[labels == c])) >= 3 for c in np.unique(labels)))
    splits = stratified_group_split(labels, groups, (0.5, 0.2, 0.3), seed, NAMES)
    for g in np.unique(groups):
        assert len(set(splits[groups == g])) == 1


def test_split_depends_on_the_seed_only() -> None:
    labels, groups = np.repeat([0, 1], 200), np.arange(400) // 2
    first = stratified_group_split(labels, groups, (0.6, 0.2, 0.2), 1, NAMES)
    again = stratified_group_split(labels, groups, (0.6, 0.2, 0.2), 1, NAMES)
    other = stratified_group_split(labels, groups, (0.6, 0.2, 0.2), 2, NAMES)
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_large_groups_spread_over_the_splits_like_small_ones() -> None:
    sizes = np.array([1] * 700 + [2] * 200 + [4] * 100)
    groups = np.repeat(np.arange(1000), sizes)
    splits = stratified_group_split(np.zeros(len(groups), int), groups, (0.65, 0.1, 0.25), 0, NAMES)
    for split in SPLITS:
        of_size = sizes[np.unique(groups[splits == split])]
        assert abs(of_size.mean() - sizes.mean()) < 0.1 * sizes.mean()


def test_a_class_of_two_lesions_cannot_be_split() -> None:
    with pytest.raises(UserError, match=naming("'c1'", 2)):
        stratified_group_split(np.array([0, 0, 0, 1, 1]), np.arange(5), (0.6, 0.2, 0.2), 0, NAMES)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(1, 200), min_size=2, max_size=6),
    st.integers(20, 400),
    st.integers(0, 3),
    st.integers(0, 9),
)
def test_calibration_is_stratified_and_from_train(
    counts: list[int], n: int, least: int, seed: int
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.concatenate([labels, labels])  # the second half is not train
    train = np.arange(sum(counts))
    drawn = calibration_set(labels, train, n, least, seed)
    assert len(drawn) == min(n, len(train)) == len(set(drawn))
    assert set(drawn) <= set(train)
    assert np.all(np.diff(drawn) > 0)
    got = np.bincount(labels[drawn], minlength=len(counts))
    floor = np.minimum(counts, least)
    assert np.all(got >= floor)
    ideal = np.array(counts) / sum(counts) * len(drawn)
    forced = np.maximum(floor - ideal, 0).sum()
    assert np.abs(got - ideal).max() <= 1 + max(forced, 0) + least
    if forced == 0:
        assert np.abs(got - ideal).max() <= 1


def test_calibration_that_cannot_hold_every_class_is_refused() -> None:
    labels = np.repeat(np.arange(5), 20)
    with pytest.raises(UserError, match=naming("calibration.n", "calibration.min_per_class", 8)):
        calibration_set(labels, np.arange(100), 8, 2, 0)
