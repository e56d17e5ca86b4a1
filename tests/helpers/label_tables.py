"""Tables of segmentation models, drawn, and parts of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeward.tasks.assessment import Cases
from edgeward.tasks.segmentation.assess import LabelMaps
from edgeward.tasks.segmentation.tables import Lesion, Overlap, Tables

CLASSES = ["organ", "spot"]


def make(
    n: int = 60, seed: int = 0, loss: float = 0.0, miss: float = 0.2, over: float = 0.02
) -> tuple[Tables, Cases]:
    """Draw the tables of a model; `loss` of Dice, share of missed lesions, over-confidence.

    The same seed gives the same cases and nearly the same errors, so that two models are paired.
    """
    rng = np.random.default_rng(seed)
    tables, groups = Tables(), np.arange(n) // 2
    for i in range(n):
        for k in range(2):
            truth = 0 if k and i % 3 == 0 else int(rng.integers(200, 400)) // (1 + 5 * k)
            share = np.clip(rng.normal(0.9 - loss, 0.03), 0, 1)
            both = round(truth * share)
            said = truth if truth else int(rng.random() < 0.3) * 5
            dice = 2 * both / (truth + said) if truth else np.nan
            sizes = [] if not truth or not k else [4.0, 9.0, 40.0]
            found = rng.random(3) >= miss
            tables.overlaps.append(
                Overlap(
                    i, k, truth, said, both, dice, dice / (2 - dice),
                    10 * (1 - share) if truth else np.nan, share if truth else np.nan,
                    len(sizes), int(found[: len(sizes)].sum()), int(rng.random() < 0.1),
                )
            )  # fmt: skip
            tables.lesions += [
                Lesion(i, k, j, size, bool(found[j])) for j, size in enumerate(sizes)
            ]
        count = rng.multinomial(2000, np.full(15, 1 / 15)).astype(float)
        confidence = (np.arange(15) + 0.5) / 15
        right = rng.binomial(count.astype(int), np.clip(confidence - over, 0, 1)).astype(float)
        band = np.stack([count // 4, count // 4 * confidence, right // 4], axis=1)
        tables.sums.append(np.stack([np.stack([count, count * confidence, right], axis=1), band]))
    tables.confusion = np.eye(3, dtype=np.int64)
    strata = (np.arange(n) % 3 > 0).astype(np.int64)
    return tables, Cases(np.arange(n), strata, groups, CLASSES, ["spot"])


def maps(n: int) -> LabelMaps:
    """Label maps of 2 x 2 pixels without anything."""
    return LabelMaps(np.zeros(4 * n, dtype=np.uint8), np.full((n, 2), 2))


def part(tables: Tables, cases: Cases, rows: np.ndarray) -> tuple[Tables, Cases]:
    """Return some of the cases, which may be repeated, numbered anew."""
    k = len(cases.classes)
    chosen = Tables(
        [
            replace(tables.overlaps[k * i + c], index=n)
            for n, i in enumerate(rows)
            for c in range(k)
        ],
        [
            replace(row, index=n)
            for n, i in enumerate(rows)
            for row in tables.lesions
            if row.index == i
        ],
        [tables.sums[i] for i in rows],
        tables.confusion,
    )
    labels, groups = cases.labels[rows], cases.groups[rows]
    return chosen, replace(cases, indices=np.arange(len(rows)), labels=labels, groups=groups)
