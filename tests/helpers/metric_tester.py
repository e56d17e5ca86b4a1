"""What must hold of every metric of every task."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeward.statistics.bootstrap import resample
from edgeward.tasks.assessment import Arm, Key, MeanOfShares, difference, interval

Build = Callable[[np.ndarray], Arm]
REFITTED = {"smooth_ece": 5e-3}  # its bandwidth is that of the cases given


def check_metrics(build: Build, n: int) -> None:
    """Check permutation, bounds, resampling and absent classes.

    Parameters
    ----------
    build : from indices into some population of n cases, repeats allowed, to a model on these cases.
    """
    rows, rng = np.arange(n), np.random.default_rng(0)
    arm = build(rows)
    order_does_not_matter(arm, build(rng.permutation(rows)))
    weights_are_repeats(arm, build)
    intervals_are_bounded(arm)
    for k, name in enumerate(arm.cases.classes):
        if (without := np.flatnonzero(~arm.has(k))).size:
            absent_classes_have_none(build(without), name)


def close(key: Key, value: float, expected: float) -> None:
    loose = REFITTED.get(key.metric, 1e-4)
    assert value == pytest.approx(expected, rel=loose, abs=1e-6, nan_ok=True), key


def numbers(arm: Arm) -> set[Key]:
    """Its metrics, less what is an array, e.g. over the bins of a diagram."""
    return {key for key, value in arm.estimates.items() if not np.ndim(value)}


def order_does_not_matter(arm: Arm, other: Arm) -> None:
    assert set(arm.estimates) == set(other.estimates)
    for key in numbers(arm):
        assert arm.value(key) == pytest.approx(other.value(key), abs=1e-9, nan_ok=True), key


def weights_are_repeats(arm: Arm, build: Build) -> None:
    n, groups = len(arm.cases), arm.cases.groups
    plain = numbers(arm) - arm.squared  # these put noise back
    once = arm.replicates(np.ones((n, 1), np.float32))
    for key in plain:
        close(key, float(once[key][0]), float(arm.estimates[key]))
    twice = np.where(groups == groups[n // 2], 2, 1)
    found = arm.replicates(twice[:, None].astype(np.float32))
    repeated = build(np.repeat(np.arange(n), twice))
    for key in plain:
        close(key, float(found[key][0]), float(repeated.estimates[key]))


def intervals_are_bounded(arm: Arm) -> None:
    cases = arm.cases
    drawn = resample({"a": arm, "b": arm}, cases.labels, cases.groups, 200, 0)
    shares = {m.name for m in (*arm.task.metrics, *arm.task.class_metrics) if m.share}
    for key in arm.keys:
        found = interval(arm, key, drawn["a"], 0.95)
        if not found.known:
            continue
        estimate, low, high = found
        assert low <= estimate <= high, key
        if key.metric in shares:
            assert low >= 0, key
            assert high <= 1, key
        same, down, up = difference(arm, arm, key, (drawn["a"], drawn["b"]), 0.95)
        assert same == 0, key
        assert down <= 0 <= up, key


def absent_classes_have_none(arm: Arm, name: str) -> None:
    cases = arm.cases
    drawn = resample({"a": arm}, cases.labels, cases.groups, 200, 0)["a"]
    assert not interval(arm, Key(arm.task.class_difference, name), drawn, 0.95).known
    assert not interval(arm, Key(arm.task.gained, name), drawn, 0.95).known
    for key in arm.keys:  # what has cases is known all the same, e.g. a mean over the other classes
        basis = arm.basis(key)
        if not isinstance(basis, MeanOfShares):
            assert interval(arm, key, drawn, 0.95).known == bool(basis.n), key
