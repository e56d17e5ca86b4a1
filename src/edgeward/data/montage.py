"""A picture of a prepared set: some cases of every split, outlines of the masks over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from edgeward.data.store import SPLITS, Prepared

PER_SPLIT = 8
_TILE = 128
_GAP = 4
# Okabe and Ito's colours that stand out from grey and from skin, one per class in turn.
COLOURS = ((0, 158, 115), (213, 94, 0), (86, 180, 233), (240, 228, 66), (204, 121, 167), (0, 114, 178))  # fmt: skip


def outline(mask: np.ndarray) -> np.ndarray:
    """Return the labels (h, w) of those pixels that have a neighbour of another label, else 0."""
    inner = np.ones(mask.shape, bool)
    for axis in (0, 1):
        for step in (1, -1):
            moved = np.roll(mask, step, axis)
            edge = [slice(None), slice(None)]
            edge[axis] = slice(0, 1) if step == 1 else slice(-1, None)
            moved[tuple(edge)] = mask[tuple(edge)]  # the picture's rim is no outline
            inner &= moved == mask
    return np.where(inner, 0, mask)


def plane(data: Prepared, index: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a picture of a case: uint8 (h, w, 3), and its labels (h, w).

    Of a volume it is the axial slice with the most foreground (of the rarest class there, as seen
    from above, the patient's right on the left, as radiologists look at it); the middle one
    without foreground.
    """
    if data.volumes is None:
        image = np.asarray(data.images[index])
        mask = None if data.masks is None or data.task == "classification" else data.masks[index]
        return np.broadcast_to(image, (*image.shape[:2], 3)), mask
    image, mask = data.view(index)
    labels = [np.count_nonzero(mask == label, axis=(1, 2)) for label in range(1, data.n_labels)]
    held = [counts for counts in labels if counts.any()]
    at = int(np.argmax(min(held, key=lambda c: int(c.sum())))) if held else mask.shape[0] // 2
    grey = np.rint(np.asarray(image[0, at], np.float32)).astype(np.uint8)[::-1, ::-1]
    return np.broadcast_to(grey[..., None], (*grey.shape, 3)), mask[at, ::-1, ::-1]


def _tile(picture: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Fit a picture into a tile, the outlines drawn at the tile's resolution."""
    h, w = picture.shape[:2]
    scale = _TILE / max(h, w)
    size = (max(1, round(w * scale)), max(1, round(h * scale)))
    fitted = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)).copy()
    if mask is not None:
        labels = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
        rim = outline(labels)
        for label in np.unique(rim[rim > 0]):
            fitted[rim == label] = COLOURS[(int(label) - 1) % len(COLOURS)]
    tile = np.zeros((_TILE, _TILE, 3), np.uint8)
    top, left = (_TILE - size[1]) // 2, (_TILE - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = fitted
    return tile


def montage(data: Prepared, path: Path) -> None:
    """Write a PNG: a row per split, cases evenly spaced over the split's strata."""
    rows = []
    for split in SPLITS:
        own = data.indices(split)
        own = own[np.argsort(data.labels[own], kind="stable")]
        chosen = own[np.unique(np.linspace(0, len(own) - 1, PER_SPLIT).round().astype(int))]
        tiles = [
            _tile(np.ascontiguousarray(p), m) for p, m in (plane(data, int(i)) for i in chosen)
        ]
        tiles += [np.full((_TILE, _TILE, 3), 255, np.uint8)] * (PER_SPLIT - len(tiles))
        gap = np.full((_TILE, _GAP, 3), 255, np.uint8)
        rows += [np.concatenate([x for t in tiles for x in (t, gap)][:-1], axis=1)]
    gap = np.full((_GAP, rows[0].shape[1], 3), 255, np.uint8)
    picture = np.concatenate([x for r in rows for x in (r, gap)][:-1])
    Image.fromarray(picture).save(path, format="PNG")
