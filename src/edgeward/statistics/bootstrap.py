"""Clustered, stratified bootstrap of the metrics of several models on the same resamples.

Resampled: groups (lesions, patients) with replacement, within strata; a group's cases come along
together, as an integer weight. So a resample is a matrix product of weights with features that are
computed once; what is not linear in them stays fixed at the original sample (edges of bins, bandwidths).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol, TypeVar

import numpy as np

_BLOCK = 100
K = TypeVar("K")


class Arm(Protocol[K]):
    """What is resampled: a model's metrics on the cases.

    Attributes
    ----------
    estimates : metric -> estimate, on the scale of the replicates.
    biased : metrics that resampling raises, because it adds noise to gaps that |.| and squares turn into error.
    squared : those that are reported as the root of their positive part.
    """

    @property
    def estimates(self) -> Mapping[K, np.ndarray]: ...

    @property
    def biased(self) -> Collection[K]: ...

    @property
    def squared(self) -> Collection[K]: ...

    def replicates(self, weights: np.ndarray) -> Mapping[K, np.ndarray]:
        """Return the metrics under weights of the cases (n, b), the resamples on the last axis."""


def strata(labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Assign each group to the rarest label among its cases.

    A group usually has one label. Where it spans several, the rarest decides, so that every resample
    holds as many groups with the rare label as the sample.

    Parameters
    ----------
    labels, groups : int, shape (n,).

    Returns
    -------
    member : int64 (n,), group number 0..g-1 of each case, in the order of the group ids.
    stratum : int64 (g,), label of each group.
    """
    _, member = np.unique(groups, return_inverse=True)
    count = np.bincount(labels)
    order = np.argsort(count, kind="stable")  # rarest label first
    rank = np.empty(len(count), dtype=np.int64)
    rank[order] = np.arange(len(count))
    best = np.full(member.max() + 1, len(count), dtype=np.int64)
    np.minimum.at(best, member, rank[labels])
    return member, order[best]


def resample_weights(
    labels: np.ndarray, groups: np.ndarray, resamples: int, seed: int
) -> Iterator[np.ndarray]:
    """Yield blocks of case weights, float32 (n, b), whole numbers; b sums to `resamples`.

    The weights depend on the group ids and the seed only, not on the order of the cases, and are the
    same for every model.
    """
    member, stratum = strata(labels, groups)
    sets = [np.flatnonzero(stratum == s) for s in np.unique(stratum)]
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _BLOCK):
        b = min(_BLOCK, resamples - start)
        weight = np.empty((len(stratum), b), dtype=np.float32)
        for rows in sets:
            g = len(rows)
            drawn = rng.integers(g, size=(b, g)) + np.arange(b)[:, None] * g
            weight[rows] = np.bincount(drawn.ravel(), minlength=b * g).reshape(b, g).T
        yield weight[member]


def resample(
    arms: Mapping[str, Arm[K]], labels: np.ndarray, groups: np.ndarray, resamples: int, seed: int
) -> dict[str, dict[K, np.ndarray]]:
    """Bootstrap all arms on the same resamples.

    Replicates of `biased` metrics are shifted to have the estimate as their mean, on the scale of the
    estimates, before the root of the `squared` ones is taken.

    Returns
    -------
    arm -> metric -> replicates, float64 (..., resamples), on the reported scale.
    """
    parts: dict[str, list[Mapping[K, np.ndarray]]] = {name: [] for name in arms}
    for weights in resample_weights(labels, groups, resamples, seed):
        for name, arm in arms.items():
            parts[name].append(arm.replicates(weights))
    out: dict[str, dict[K, np.ndarray]] = {}
    for name, arm in arms.items():
        out[name] = {}
        for metric in parts[name][0]:
            values = np.concatenate([part[metric] for part in parts[name]], axis=-1)
            values = values.astype(np.float64)
            if metric in arm.biased:
                values = np.maximum(values + (arm.estimates[metric] - np.nanmean(values)), 0.0)
            out[name][metric] = np.sqrt(values) if metric in arm.squared else values
    return out


def resample_mean(
    values: np.ndarray, labels: np.ndarray, groups: np.ndarray, resamples: int, seed: int
) -> np.ndarray:
    """Return replicates of the mean of `values`, float (n,): float64 (resamples,)."""
    blocks = resample_weights(labels, groups, resamples, seed)
    return np.concatenate([w.T @ values / w.sum(axis=0) for w in blocks])
