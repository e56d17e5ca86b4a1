"""The contact sheet: small pictures of the exemplars, ready for a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

SIDE = 96


def contact_sheet(
    found: dict[str, Any], images: np.ndarray, classes: Sequence[str], count: int
) -> list[dict[str, Any]]:
    """Return the first exemplars with their pictures: those of the modal label, then those by rank.

    Parameters
    ----------
    found : one entry of `edgeward.tasks.multiclass.exemplars.forgotten`.
    images : uint8, shape (n, h, w, c), c 1 or 3; of the prepared data.
    count : most pictures.

    Returns
    -------
    ``index, true, before, after`` (class names) and ``picture`` (a data URI of a PNG).
    """
    sheet: dict[int, dict[str, Any]] = {}
    for kind in ("modal", "rank"):
        rows = found[kind]
        for place, index in enumerate(int(i) for i in rows["images"]):
            if len(sheet) < count and index not in sheet:
                said = {key: classes[rows["labels"][key][place]] for key in rows["labels"]}
                sheet[index] = {"index": index, **said, "picture": data_uri(images[index])}
    return list(sheet.values())


def data_uri(image: np.ndarray) -> str:
    """Return an image, uint8 (h, w, c), as a PNG data URI, at most `SIDE` pixels high and wide."""
    picture = Image.fromarray(
        image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image)
    )
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
