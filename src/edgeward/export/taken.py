"""Is a finished file taken as it was meant? Decisions on validation images against what other ways to take it would give.

What suits is chosen on one half of the images and shown on the other, so that a permutation of seven classes, of which one
always looks good, is not believed by chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom, binomtest

from edgeward.core.text import listing
from edgeward.data.store import Prepared, to_input
from edgeward.models.config import Takes
from edgeward.records.card import Card
from edgeward.records.parity import Taken
from edgeward.runtimes.base import Given

PER_CLASS = 60
BATCH = 32
SURE = 1e-3
"""Level of the tests: a doubt asks a person to look again, and shall be rare where nothing is wrong."""

IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
STEP = {"rgb": 1, "bgr": -1}
RANGES = ([0.0, 1.0], [-1.0, 1.0], [0.0, 255.0])


def balanced(data: Prepared) -> np.ndarray:
    """Return indices of validation images, int64 ascending: at most `PER_CLASS` of each class."""
    indices = data.indices("val")
    of_class = [indices[data.labels[indices] == c] for c in range(len(data.classes))]
    return np.sort(np.concatenate([mine[:PER_CLASS] for mine in of_class]))


def examine(given: Given, data: Prepared, threads: int) -> Taken:
    """Decide validation images, and look for a better way to take the file.

    Returns
    -------
    Doubts are sentences: no better than chance; another input or another order of the classes is right more often
    (one-sided exact McNemar test on the half that did not choose it, level `SURE`).
    """
    indices = balanced(data)
    labels = data.labels[indices]
    images = to_input(data.images[indices])
    classes = data.classes
    decided = _decide(given, images, classes, threads)
    right = decided == labels
    n, constant = len(labels), float(np.bincount(labels).max() / len(labels))
    doubts = []
    if not _more(right, constant):
        doubts.append(
            f"on {n} validation images, at most {PER_CLASS} of each class, it is right in {right.mean():.0%}, no better than always the "
            f"same answer ({constant:.0%})"
        )
    chose, shows = np.arange(n) % 2 == 0, np.arange(n) % 2 == 1
    others = {
        told: _decide(given.refitted(**changed), images, classes, threads) == labels
        for told, changed in _otherwise(given.takes, data.card)
    }
    best = max(others, key=lambda told: int(others[told][chose].sum()), default=None)
    if best is not None and _better(others[best][shows], right[shows]):
        doubts.append(
            f"with {best} it is right in {others[best].mean():.0%} instead of {right.mean():.0%} of them: are input_range, mean, std and "
            "order stated as it was trained (takes, config/model/)?"
        )
    renamed = _permuted(decided, labels, chose, len(classes))
    if _better((renamed[decided] == labels)[shows], right[shows]) and _more(
        renamed[decided] == labels, constant
    ):
        theirs = given.takes.classes or list(classes)
        order = [classes[renamed[classes.index(c)]] for c in theirs]
        share = (renamed[decided] == labels).mean()
        doubts.append(
            f"with the classes in the order {listing(order)} it is right in {share:.0%} instead of {right.mean():.0%} of them: is that of "
            "the outputs stated (takes.classes, config/model/)?"
        )
    return Taken(n=n, correct=float(right.mean()), constant=constant, doubts=doubts)


def _decide(given: Given, images: np.ndarray, classes: Sequence[str], threads: int) -> np.ndarray:
    forward = given.forward(classes, threads)
    parts = [forward(images[i : i + BATCH]).argmax(1) for i in range(0, len(images), BATCH)]
    return np.concatenate(parts)


def _otherwise(takes: Takes, card: Card) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield other ways to take a file: in words, and the keys that change."""
    channels = len(card.channel_mean)
    orders = ("rgb", "bgr") if channels == 3 else ("rgb",)
    for order in orders:
        ways: list[tuple[str, list[float], Any, Any]]
        ways = [(f"input {low:g} to {high:g}", [low, high], None, None) for low, high in RANGES]
        if channels == 3:
            ways.append(("input 0 to 1 and ImageNet's mean and std", RANGES[0], *IMAGENET))
        mean, std = ([round(v, 3) for v in of] for of in (card.channel_mean, card.channel_std))
        told = f"input 0 to 1 and the mean and std of these images, {mean} and {std},"
        ways.append((told, RANGES[0], mean[:: STEP[order]], std[:: STEP[order]]))
        for told, bounds, mean, std in ways:
            changed: dict[str, Any] = {
                "input_range": bounds,
                "mean": mean,
                "std": std,
                "order": order,
            }
            if any(getattr(takes, key) != value for key, value in changed.items()):
                yield told + (f" in {order.upper()}" if channels == 3 else ""), changed


def _permuted(decided: np.ndarray, labels: np.ndarray, chose: np.ndarray, k: int) -> np.ndarray:
    """Return what each decision means if the classes are permuted so that most of the chosen are right, int64 (k,)."""
    table = np.zeros((k, k))
    np.add.at(table, (decided[chose], labels[chose]), 1)
    return linear_sum_assignment(-table)[1]


def _more(right: np.ndarray, constant: float) -> bool:
    """Tell whether decisions, bool (n,), are right more often than one and the same answer, by a binomial test."""
    return bool(binom.sf(right.sum() - 1, len(right), constant) < SURE)


def _better(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether one is right more often than the other, bool (n,) each, beyond chance."""
    gained, lost = int((one & ~other).sum()), int((~one & other).sum())
    if gained + lost == 0:
        return False
    return bool(binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue < SURE)
