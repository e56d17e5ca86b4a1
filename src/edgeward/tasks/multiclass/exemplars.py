"""Pruning-identified exemplars: the images on which compression changes what a population of seeds says.

Two definitions, both of a population of K networks trained alike and their compressed forms:

- modal (Hooker et al., "What Do Compressed Deep Neural Networks Forget?", arXiv 1911.05248): the label
  that most of the K networks give is another one after compression;
- rank (Holste et al., MICCAI 2023, arXiv 2308.09180): the K probability vectors are averaged, and the
  image is among the share with the lowest Spearman correlation, across classes, of the mean vectors
  before and after.

Two populations differ without any compression, too. So the seeds are split into halves A and B, many
times, and dense A against compressed B stands beside dense A against dense B, the null: equal sizes,
no seed in common. What is above the null is compression's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata

if TYPE_CHECKING:
    from edgeward.tasks.multiclass.assess import Arm

# By rank correlation: the share of Holste et al. (2023). Halvings of the seeds behind the null.
SHARE = 0.05
HALVINGS = 50


def modal_label(decisions: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the most frequent decision of each image, int64 (n,).

    Among equally frequent ones, that with the highest mean probability.

    Parameters
    ----------
    decisions : int, shape (K, n). probabilities : float, shape (K, n, c).
    """
    classes = probabilities.shape[2]
    votes = (decisions[:, :, None] == np.arange(classes)).sum(axis=0)
    # A mean probability is at most 1, so half of it never outweighs a vote.
    label: np.ndarray = (votes + probabilities.mean(axis=0) / 2).argmax(axis=1)
    return label


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation across classes, row by row, with mid-ranks for ties.

    Parameters
    ----------
    first, second : float, shape (n, c).

    Returns
    -------
    float64, shape (n,); 0 where all classes of a row are equal, which ranks nothing.
    """
    a, b = (rankdata(x, axis=1) - (x.shape[1] + 1) / 2 for x in (first, second))
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    result: np.ndarray = (a * b).sum(axis=1) / np.where(scale == 0, 1.0, scale)
    return result


def halves(seeds: int, splits: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return random disjoint halves of the seeds, each of ``seeds // 2``; empty below two seeds."""
    rng = np.random.default_rng(seed)
    half = seeds // 2
    orders = [rng.permutation(seeds) for _ in range(splits)] if half else []
    return [(order[:half], order[half : 2 * half]) for order in orders]


def per_class(changed: np.ndarray, labels: np.ndarray, classes: list[str]) -> list[dict[str, Any]]:
    """Count the exemplars of each class: ``class, n, count, rate``; the rate is NaN without images.

    Parameters
    ----------
    changed : float or bool, shape (n,): how far each image is an exemplar, 0 to 1.
    labels : int, shape (n,).
    """
    out = []
    for k, name in enumerate(classes):
        mine = changed[labels == k]
        rate = float(mine.mean()) if len(mine) else float("nan")
        out.append({"class": name, "n": len(mine), "count": float(mine.sum()), "rate": rate})
    return out


def exemplars(
    dense: tuple[np.ndarray, np.ndarray],
    compressed: tuple[np.ndarray, np.ndarray],
    labels: np.ndarray,
    classes: list[str],
    *,
    share: float,
    splits: int,
    seed: int,
) -> dict[str, Any]:
    """Find the exemplars by both definitions, with the dense-against-dense null.

    Parameters
    ----------
    dense, compressed : decisions int (K, n) and probabilities float (K, n, c) of the same K seeds, in
        the same order.
    labels : int, shape (n,).
    share : of the images that count as exemplars by rank, e.g. 0.05.
    splits : random halvings behind the null. seed : of the halvings.

    Returns
    -------
    ``seeds`` and, under ``modal`` and ``rank``: ``images`` (positions, those that changed most first),
    their ``labels`` (``true``; modal ``before`` and ``after``), ``rate``, ``per_class`` and ``halves {seeds, splits, compressed, null, per_class, null_per_class}``,
    where compressed and null are rates; by rank, both are the share of images at or below
    ``threshold``, the largest correlation among the exemplars.
    """
    k = len(dense[0])
    labels_before, labels_after = modal_label(*dense), modal_label(*compressed)
    moved = labels_before != labels_after
    correlation = rank_correlation(dense[1].mean(axis=0), compressed[1].mean(axis=0))
    count = max(1, round(share * len(labels)))
    lowest = np.argsort(correlation, kind="stable")[:count]
    threshold = float(correlation[lowest[-1]])
    rank_set = np.zeros(len(labels), dtype=bool)
    rank_set[lowest] = True

    def modal(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return modal_label(*a) != modal_label(*b)

    def low(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        changed: np.ndarray = rank_correlation(a[1].mean(axis=0), b[1].mean(axis=0)) <= threshold
        return changed

    strongest = np.flatnonzero(moved)[np.argsort(correlation[moved], kind="stable")]
    found: dict[str, Any] = {"seeds": k}
    for name, images, chosen, changed in (
        ("modal", strongest, moved, modal),
        ("rank", lowest, rank_set, low),
    ):
        signal, null = _in_halves(dense, compressed, halves(k, splits, seed), changed)
        found[name] = {
            "images": images,
            "labels": {
                "true": labels[images],
                "before": labels_before[images],
                "after": labels_after[images],
            },
            "rate": float(chosen.mean()),
            "per_class": per_class(chosen, labels, classes),
            "halves": {
                "seeds": k // 2,
                "splits": splits,
                "compressed": float(signal.mean()),
                "null": float(null.mean()),
                "per_class": per_class(signal, labels, classes),
                "null_per_class": per_class(null, labels, classes),
            },
        }
    found["rank"]["threshold"] = threshold
    return found


def _in_halves(
    dense: tuple[np.ndarray, np.ndarray],
    compressed: tuple[np.ndarray, np.ndarray],
    splits: list[tuple[np.ndarray, np.ndarray]],
    changed: Callable[..., np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each image changed, against the compressed and against the dense other half."""
    signal, null = np.zeros(dense[0].shape[1]), np.zeros(dense[0].shape[1])
    for a, b in splits:
        first = (dense[0][a], dense[1][a])
        signal += changed(first, (compressed[0][b], compressed[1][b]))
        null += changed(first, (dense[0][b], dense[1][b]))
    return signal / len(splits), null / len(splits)


def forgotten(
    members: Mapping[tuple[str, str], Sequence[Arm]], references: Mapping[str, str], seed: int
) -> list[dict[str, Any]]:
    """Return the exemplars of every compressed recipe against its model's reference.

    Parameters
    ----------
    members, references : as in `edgeward.safety.pooled.pool`.

    Returns
    -------
    `exemplars` with ``model, recipe, against``; ``images`` are indices in the prepared data.
    """

    def stacked(key: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
        scores = [arm.scores for arm in members[key]]
        return np.stack([s.decision for s in scores]), np.exp(np.stack([s.log_p for s in scores]))

    out = []
    for model, recipe in members:
        if recipe == references[model]:
            continue
        cases = members[model, recipe][0].cases
        found = exemplars(
            stacked((model, references[model])),
            stacked((model, recipe)),
            cases.labels,
            cases.classes,
            share=SHARE,
            splits=HALVINGS,
            seed=seed,
        )
        for kind in ("modal", "rank"):
            found[kind]["images"] = cases.indices[found[kind]["images"]]
        out.append({"model": model, "recipe": recipe, "against": references[model], **found})
    return out
