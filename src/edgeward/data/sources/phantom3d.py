"""The drawn volumes, drawn straight into their split."""

from __future__ import annotations

import numpy as np

from edgeward.data.listing import Listing, RawCase, Request
from edgeward.data.store import SPLITS
from edgeward.data.volume_config import Phantom3dSource
from edgeward.data.volumes import phantom


def plan(source: Phantom3dSource, seed: int) -> list[tuple[int, int, int]]:
    """Choose split, number and lesions of every volume; each side has at least one with lesions."""
    cases = []
    for split, n in enumerate((source.n_train, source.n_val, source.n_test)):
        rng = np.random.default_rng((seed, 3_000 + split))
        with_lesions = max(1, round(source.lesion_share * n))
        counts = np.zeros(n, int)
        counts[:with_lesions] = 1 + np.floor(rng.random(with_lesions) * source.max_lesions)
        order = np.argsort(rng.random(n), kind="stable")
        cases += [(split, number, int(counts[i])) for number, i in enumerate(order)]
    return cases


def affine_of(source: Phantom3dSource) -> np.ndarray:
    """Return the affine of every drawn volume: axes right, anterior, superior, centred."""
    d, h, w = source.shape
    z, y, x = source.spacing
    affine = np.diag([x, y, z, 1.0])
    affine[:3, 3] = [-(w - 1) / 2 * x, -(h - 1) / 2 * y, -(d - 1) / 2 * z]
    return affine


def open_source(request: Request) -> Listing:
    """List the drawings; they are drawn as they are read."""
    source: Phantom3dSource = request.source
    cases = plan(source, request.seed)
    ids = [f"{SPLITS[split]}_{number:04d}" for split, number, _ in cases]
    affine = affine_of(source)

    def read(row: int) -> RawCase:
        split, number, lesions = cases[row]
        image, mask, _ = phantom.draw(source, request.seed, split, number, lesions)
        return RawCase(np.swapaxes(image, 0, 2)[None], np.swapaxes(mask, 0, 2), affine)

    return Listing(
        ids=ids,
        groups=list(ids),
        classes=["healthy", "lesion"],
        labels=np.array([lesions > 0 for _, _, lesions in cases], np.int64),
        foreground=list(phantom.FOREGROUND),
        splits=np.array([SPLITS[split] for split, _, _ in cases]),
        read=read,
        source="drawn by edgeward.data.volumes.phantom",
        licence="Apache-2.0",
        citation="none: synthetic volumes, no patient; not for clinical conclusions",
        synthetic=True,
    )
