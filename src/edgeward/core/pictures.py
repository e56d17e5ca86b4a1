"""Images and label maps as pictures: outlines, colours, the slice of a volume that shows most, and data URIs for a page."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

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


def telling_slice(mask: np.ndarray, n_labels: int) -> int:
    """Return the axial slice of a volume with the largest section of the class with fewest voxels.

    Parameters
    ----------
    mask : uint8 (d, h, w), label indices, 0 is background.
    n_labels : with the background.

    Returns
    -------
    Position along d; the middle one where nothing is labelled.
    """
    areas = [np.count_nonzero(mask == label, axis=(1, 2)) for label in range(1, n_labels)]
    held = [area for area in areas if area.any()]
    return int(np.argmax(min(held, key=lambda a: int(a.sum())))) if held else mask.shape[0] // 2


def as_seen(plane: np.ndarray) -> np.ndarray:
    """Turn an axial slice (.., h, w) as radiologists look at it: front up, patient's right on the left."""
    return plane[..., ::-1, ::-1]


def data_uri(picture: np.ndarray, most: int | None = None, *, lossless: bool = False) -> str:
    """Return a picture, uint8 (h, w, 3), (h, w, 1) or (h, w), as a WebP data URI, at most `most` pixels high and wide."""
    plane = picture[:, :, 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    image = Image.fromarray(np.ascontiguousarray(plane))
    if most is not None:
        image.thumbnail((most, most))
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=82, method=4, lossless=lossless)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
