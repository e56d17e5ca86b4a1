"""The drawn set: lesions are drawn straight into their split, stratified and grouped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edgeward.data import phantom
from edgeward.data.config import LESIONS, PhantomSource
from edgeward.data.listing import Batch, Listing, Request
from edgeward.data.store import SPLITS

_RENDER = 16  # images drawn at a time: their planes stay in the processor's cache


def class_counts(n: int, weights: np.ndarray) -> np.ndarray:
    """Divide n by weights (c,) into int64 counts (c,), by largest remainder, at least 1 each."""
    ideal = weights / weights.sum() * n
    counts = np.maximum(np.floor(ideal).astype(np.int64), 1)
    order = np.argsort(counts - ideal, kind="stable")
    for i in range(n - int(counts.sum())):
        counts[order[i % len(order)]] += 1
    while counts.sum() > n and counts.max() > 1:
        counts[np.argmax(counts)] -= 1
    return counts


def plan(source: PhantomSource, seed: int) -> list[phantom.DrawnLesion]:
    """Choose the lesions of every split: class counts to the image, lesions in random order."""
    weights = np.array(list(source.prevalence.values()))
    views = np.cumsum(source.views) / np.sum(source.views)
    lesions: list[phantom.DrawnLesion] = []
    for split, n in enumerate((source.n_train, source.n_val, source.n_test)):
        drawn: list[phantom.DrawnLesion] = []
        for label, count in enumerate(class_counts(n, weights)):
            rng = np.random.default_rng((seed, 1_000 + split, label))
            left, number = int(count), 0
            while left:
                wanted = 1 + int(np.searchsorted(views, rng.random(), side="right"))
                drawn.append(phantom.DrawnLesion(split, label, number, min(wanted, left)))
                left -= drawn[-1].views
                number += 1
        order = np.random.default_rng((seed, 2_000 + split)).permutation(len(drawn))
        lesions += [drawn[i] for i in order]
    return lesions


def drawn_batches(
    lesions: Sequence[phantom.DrawnLesion], style: phantom.Style, *, masks: bool
) -> Iterator[Batch]:
    """Draw lesions in their order, a bounded number of images at a time."""
    pending: list[phantom.DrawnLesion] = []
    row = held = 0
    for lesion in [*lesions, None]:
        if lesion is not None:
            pending.append(lesion)
            held += lesion.views
        if pending and (lesion is None or held >= _RENDER):
            images, outlines = phantom.render(pending, style)
            yield Batch(np.arange(row, row + held), images, outlines if masks else None)
            row, held = row + held, 0
            pending = []


# What a card says of every set that is drawn here.
DRAWN: dict[str, Any] = {
    "source": "drawn by edgeward.data.phantom",
    "licence": "Apache-2.0",
    "citation": "none: synthetic images, no patient; not for clinical conclusions",
    "synthetic": True,
}


def open_source(request: Request) -> Listing:
    """List the drawings; they are drawn as they are read."""
    source: PhantomSource = request.source
    classes: list[str] = list(source.prevalence)
    lesions = plan(source, request.seed)
    style = phantom.Style(
        classes=tuple(classes),
        size=request.image_size,
        seed=request.seed,
        overlap=source.overlap,
        hair=source.hair,
        noise=source.noise,
    )

    def name(lesion: phantom.DrawnLesion) -> str:
        return f"{SPLITS[lesion.split]}_{classes[lesion.label]}_{lesion.number:05d}"

    def batches() -> Iterator[Batch]:
        return drawn_batches(lesions, style, masks=True)

    views = np.array([lesion.views for lesion in lesions])
    return Listing(
        classes=classes,
        ids=[f"{name(lesion)}_{i}" for lesion in lesions for i in range(lesion.views)],
        labels=np.repeat([lesion.label for lesion in lesions], views).astype(np.int64),
        groups=[name(lesion) for lesion in lesions for _ in range(lesion.views)],
        splits=np.repeat([SPLITS[lesion.split] for lesion in lesions], views),
        channels=3,
        batches=batches,
        **DRAWN,
        foreground=["lesion"],
        meanings=LESIONS,
        columns={"views": [str(v) for v in np.repeat(views, views)]},
    )
