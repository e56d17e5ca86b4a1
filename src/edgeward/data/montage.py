"""A picture of a prepared set: some cases of every split, outlines of the masks over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from edgeward.core.pictures import COLOURS, as_seen, outline, telling_slice
from edgeward.data.store import Prepared, sides

PER_SPLIT = 8
_TILE = 128
_GAP = 4


def plane(data: Prepared, index: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a picture of a case: uint8 (h, w, 3), and its labels (h, w).

    Of a volume it is the axial slice with the most foreground (of the rarest class there, as seen
    from above, the patient's right on the left, as radiologists look at it); the middle one
    without foreground.
    """
    if data.volumes is None and data.spatial_dims == 3:
        middle = np.asarray(data.images[index, data.images.shape[1] // 2, ..., 0])
        grey = as_seen(middle)
        return np.broadcast_to(grey[..., None], (*grey.shape, 3)), None
    if data.volumes is None:
        image = np.asarray(data.images[index])
        predicted = data.n_labels > len(data.classes)  # else the masks are only there
        mask = data.masks[index] if predicted and data.masks is not None else None
        return np.broadcast_to(image, (*image.shape[:2], 3)), mask
    image, mask = data.view(index)
    at = telling_slice(mask, data.n_labels)
    grey = as_seen(np.rint(np.asarray(image[0, at], np.float32)).astype(np.uint8))
    return np.broadcast_to(grey[..., None], (*grey.shape, 3)), as_seen(mask[at])


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
    """Write a PNG: a row per split or fold, cases evenly spaced over the split's strata."""
    rows = []
    for split in sides(data.splits):
        own = np.flatnonzero(data.splits == split)
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
