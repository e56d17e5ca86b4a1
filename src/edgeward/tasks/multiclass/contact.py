"""The contact sheet: small pictures of the exemplars, ready for a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeward.core.pictures import data_uri

SIDE = 192


def contact_sheet(
    found: dict[str, Any],
    picture: Callable[[int], np.ndarray],
    classes: Sequence[str],
    count: int,
) -> list[dict[str, Any]]:
    """Return the first exemplars with their pictures: those of the modal label, then those by rank.

    Parameters
    ----------
    found : one entry of `edgeward.tasks.multiclass.exemplars.forgotten`.
    picture : from the index of a case to its picture, uint8 (h, w, c), c 1 or 3.
    count : most pictures.

    Returns
    -------
    ``index, true, before, after`` (class names) and ``picture`` (a data URI of a WebP image).
    """
    sheet: dict[int, dict[str, Any]] = {}
    for kind in ("modal", "rank"):
        rows = found[kind]
        for place, index in enumerate(int(i) for i in rows["images"]):
            if len(sheet) < count and index not in sheet:
                said = {key: classes[rows["labels"][key][place]] for key in rows["labels"]}
                shown = data_uri(picture(index), SIDE, lossless=True)
                sheet[index] = {"index": index, **said, "picture": shown}
    return list(sheet.values())
