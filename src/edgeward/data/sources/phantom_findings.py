"""The drawn set of several findings: the structures of a lesion, which come together as the diagnoses behind them have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgeward.data import phantom
from edgeward.data.config import FindingsPhantomSource, PhantomSource
from edgeward.data.findings import Findings
from edgeward.data.listing import Batch, Listing, Request
from edgeward.data.sources.phantom import DRAWN, class_counts, drawn_batches
from edgeward.data.store import SPLITS


def chances(names: Sequence[str], prevalence: Sequence[float], shares: np.ndarray) -> np.ndarray:
    """Return how often lesions of each class have each structure, float64 (classes, c).

    In proportion to the third power of how strong the structure is in the class (`edgeward.data.phantom.CENTRES`), such that over
    all classes the prevalence is that wanted: the classes are the hidden cause that makes findings come together, with correlations up
    to 0.4 as between the findings of chest X-rays.

    Parameters
    ----------
    shares : float (classes,), of the lesions, in the order of `phantom.CLASSES`; they add up to 1.
    """
    first = len(phantom.TRAITS) - len(phantom.STRUCTURES)
    at = [first + phantom.STRUCTURES.index(name) for name in names]
    strength = np.array([phantom.CENTRES[c] for c in phantom.CLASSES])[:, at] ** 3
    out = np.zeros_like(strength)
    for k, wanted in enumerate(prevalence):
        # What exceeds certainty in one class goes to the others.
        free = np.ones(len(shares), bool)
        while True:
            rest = wanted - float(shares[~free].sum())
            weight = strength[:, k] * free
            out[:, k] = np.where(free, rest * weight / float(shares @ weight), 1.0)
            over = free & (out[:, k] > 1)
            if not over.any():
                break
            free &= ~over
    return out


def plan(source: FindingsPhantomSource, seed: int) -> list[phantom.DrawnLesion]:
    """Choose the lesions of every split: of each finding the share of lesions that is wanted, exactly or one more or less."""
    names: list[str] = list(source.prevalence)
    of_class = {str(k): n for k, n in PhantomSource(kind="phantom").prevalence.items()}
    weights = np.array([of_class[name] for name in phantom.CLASSES])
    shares = weights / weights.sum()
    chance = chances(names, list(source.prevalence.values()), shares)
    steps = np.cumsum(source.views) / np.sum(source.views)
    lesions: list[phantom.DrawnLesion] = []
    for split, n in enumerate((source.n_train, source.n_val, source.n_test)):
        rng = np.random.default_rng((seed, 3_000 + split))
        views: list[int] = []
        left = n
        while left:
            many = 1 + int(np.searchsorted(steps, rng.random(), side="right"))
            views.append(min(many, left))
            left -= views[-1]
        labels = np.repeat(np.arange(len(shares)), class_counts(len(views), weights))
        labels = rng.permutation(labels[: len(views)])
        held = np.zeros((len(views), len(names)), bool)
        for k, share in enumerate(source.prevalence.values()):
            # As many as wanted, those whose chance exceeds their own random number by most.
            count = max(3, round(share * len(views)))
            order = np.argsort(rng.random(len(views)) / np.maximum(chance[labels, k], 1e-9))
            held[order[:count], k] = True
        for number, (label, mine, many) in enumerate(
            zip(labels.tolist(), held, views, strict=True)
        ):
            has = frozenset(name for name, there in zip(names, mine, strict=True) if there)
            lesions.append(phantom.DrawnLesion(split, label, number, many, has))
    return lesions


def open_source(request: Request) -> Listing:
    """List the drawings; they are drawn as they are read."""
    source: FindingsPhantomSource = request.source
    lesions = plan(source, request.seed)
    names: list[str] = list(source.prevalence)
    style = phantom.Style(
        classes=phantom.CLASSES,
        size=request.image_size,
        seed=request.seed,
        overlap=source.overlap,
        hair=source.hair,
        noise=source.noise,
    )
    views: np.ndarray = np.array([lesion.views for lesion in lesions])
    groups = [f"{SPLITS[lesion.split]}_{lesion.number:05d}" for lesion in lesions]
    held = [[name in (lesion.structures or ()) for name in names] for lesion in lesions]

    def batches() -> Iterator[Batch]:
        return drawn_batches(lesions, style, masks=False)

    return Listing(
        ids=[f"{g}_{i}" for g, n in zip(groups, views, strict=True) for i in range(n)],
        groups=[g for g, n in zip(groups, views, strict=True) for _ in range(n)],
        findings=Findings(names, np.repeat(np.array(held, np.int8), views, axis=0)),
        splits=np.repeat([SPLITS[lesion.split] for lesion in lesions], views),
        channels=3,
        batches=batches,
        **DRAWN,
        columns={"views": [str(v) for v in np.repeat(views, views)]},
    )
