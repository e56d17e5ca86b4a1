"""Sides for images: stratified by class, never dividing a group; and the calibration set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeward.core.errors import UserError
from edgeward.core.text import listing
from edgeward.data.store import SPLITS


def stratified_group_split(
    labels: np.ndarray,
    groups: np.ndarray,
    shares: Sequence[float],
    seed: int,
    names: Sequence[str],
    sides: Sequence[str] = SPLITS,
) -> np.ndarray:
    """Deal groups to sides (train, val and test, or folds) so that each class comes near its shares.

    Iterative stratification (Sechidis, Tsoumakas & Vlahavas, ECML PKDD 2011, algorithm 1), of groups instead of cases: the class
    of which fewest cases are left is dealt next and, within it, groups from the
    largest to the smallest, each to the side that lacks the largest part of its share of that
    class, so that large groups spread like small ones; when no more groups of a class are left
    than sides without it, those sides get them. If no group holds
    two classes, a side exceeds its share of a class by at most that class's largest group, and
    falls short by at most twice that.

    Parameters
    ----------
    labels : int64 (n,); or, where a case may be of several classes or of none, bool (n, c). Groups without any are dealt last, to
        the side that lacks most cases.
    groups : int64 (n,).
    shares : of each side; they add up to 1.
    seed : decides among groups that are alike.
    names : of the classes, for the error.
    sides : their names.

    Returns
    -------
    str (n,): the side of each case.

    Raises
    ------
    UserError
        If a class has fewer groups than there are sides.
    """
    unique, group = np.unique(groups, return_inverse=True)
    held = labels if labels.ndim == 2 else labels[:, None] == np.unique(labels)
    classes = np.flatnonzero(held.any(axis=0)) if labels.ndim == 2 else np.unique(labels)
    held = held[:, held.any(axis=0)]
    table = np.zeros((len(unique), len(classes)), np.int64)
    np.add.at(table, group, held)
    held_by = (table > 0).sum(0)
    if held_by.min() < len(sides):
        few = names[classes[np.argmin(held_by)]]
        raise UserError(
            f"class '{few}' has images of {held_by.min()} lesion(s) or patient(s) only; "
            f"{listing(sides)} need one each. Add images, join the class to another, or leave it out."
        )
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(unique))
    target = np.outer(np.array(shares), table.sum(0))
    lack = target.copy()
    side = np.full(len(unique), -1)
    has = np.zeros((len(sides), len(classes)), bool)
    left = set(range(len(classes)))
    while left:
        still = table[side < 0].sum(0)
        c = min(left, key=lambda k: (still[k], k))
        left.remove(c)
        queue = [g for g in shuffled if side[g] < 0 and table[g, c]]
        queue.sort(key=lambda g: -int(table[g, c]))
        for i, g in enumerate(queue):
            choice = np.arange(len(sides))
            without = np.flatnonzero(~has[:, c])
            if len(without) and len(queue) - i <= len(without):
                choice = without
            need = lack[choice, c] / target[choice, c] + 1e-9 * lack[choice].sum(1)
            side[g] = choice[np.argmax(need)]
            lack[side[g]] -= table[g]
            has[side[g]] |= table[g] > 0
    size = np.bincount(group)
    rest = sorted((g for g in shuffled if side[g] < 0), key=lambda g: -int(size[g]))
    if rest:
        dealt = np.bincount(side[side >= 0], size[side >= 0], minlength=len(sides))
        room = np.array(shares) * len(group) - dealt
        for g in rest:
            side[g] = int(np.argmax(room))
            room[side[g]] -= size[g]
    return np.array(sides)[side[group]]


def of_fold(dealt: np.ndarray, fold: int) -> np.ndarray:
    """Return the splits of one turn of a cross-validation: a fold is tested, the next one validates, all others train.

    Parameters
    ----------
    dealt : str (n,), the fold of each case, as `fold_names` names them.
    fold : the one that is tested.

    Returns
    -------
    str (n,): "train", "val" or "test".
    """
    names = fold_names(len(set(dealt.tolist())))
    test, val = names[fold], names[(fold + 1) % len(names)]
    return np.where(dealt == test, "test", np.where(dealt == val, "val", "train"))


def fold_names(folds: int) -> list[str]:
    """Return the names of folds, as they stand in ``split.csv``."""
    return [f"fold{k}" for k in range(folds)]


def strata(held: np.ndarray, groups: list[str], names: list[str]) -> tuple[np.ndarray, list[str]]:
    """Name each case after the class it holds that the fewest cases hold.

    So a split that keeps the strata equal spreads the rare findings. A stratum with fewer groups
    than there are splits joins the largest one.

    Parameters
    ----------
    held : bool (n, c), which case holds which class. names : of the classes.

    Returns
    -------
    labels : int64 (n,), and the names they index; "none" is a case that holds no class.
    """
    order = np.argsort(held.sum(0), kind="stable")
    first = np.where(held.any(1), order[np.argmax(held[:, order], axis=1)], len(names))
    of_group = np.array(groups)
    kept = [c for c in np.unique(first) if len(set(of_group[first == c])) >= 3]
    if not kept:
        kept = [int(np.bincount(first).argmax())]
    largest = max(kept, key=lambda c: int((first == c).sum()))
    first = np.where(np.isin(first, kept), first, largest)
    labels = np.searchsorted(kept, first).astype(np.int64)
    return labels, [[*names, "none"][c] for c in kept]


def calibration_set(
    labels: np.ndarray, train: np.ndarray, n: int, least: int, seed: int
) -> np.ndarray:
    """Draw calibration images from train, each class by its share there.

    Parameters
    ----------
    labels : int64 (n_images,).
    train : int64, indices of the training images.
    n : images to draw; all of train if it has fewer.
    least : at least so many of each class, as far as train has them.
    seed : of the draw.

    Returns
    -------
    int64, ascending indices, a subset of `train`, min(n, len(train)) of them.
    """
    n = min(n, len(train))
    classes, counts = np.unique(labels[train], return_counts=True)
    floor = np.minimum(counts, least)
    if floor.sum() > n:
        raise UserError(
            f"calibration: {n} images cannot hold {least} of each of {len(classes)} classes. Raise "
            "calibration.n or lower calibration.min_per_class in config/data/."
        )
    quota = np.maximum(np.floor(counts / counts.sum() * n).astype(np.int64), floor)
    while quota.sum() > n:  # the floors took more than their share: the commonest give way
        quota[np.argmax(np.where(quota > floor, quota - counts / counts.sum() * n, -np.inf))] -= 1
    while quota.sum() < n:
        room = np.where(quota < counts, counts / counts.sum() * n - quota, -np.inf)
        quota[np.argmax(room)] += 1
    rng = np.random.default_rng(seed)
    drawn = [
        rng.choice(train[labels[train] == c], int(k), replace=False)
        for c, k in zip(classes, quota, strict=True)
    ]
    return np.sort(np.concatenate(drawn))
