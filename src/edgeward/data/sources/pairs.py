"""Images and their masks in two folders: segmentation in the plane with files of your own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeward.core.errors import UserError
from edgeward.data.config import PairsSource
from edgeward.data.labels import classes_of, label_indices, matched
from edgeward.data.listing import Batch, Listing, Request
from edgeward.data.paths import folder_of, inside, root_of
from edgeward.data.pixels import (
    SUFFIXES,
    decode,
    decode_labels,
    decoded_batches,
    read_file,
)


def _by_stem(folder: Path, suffix: str) -> dict[str, Path]:
    """Return the image files of a folder by name, without `suffix` and without the file's type."""
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        name = path.relative_to(folder)
        inside(folder, str(name))
        if not path.stem.endswith(suffix):
            continue
        key = (name.parent / path.stem.removesuffix(suffix)).as_posix()
        if key in found:
            raise UserError(f"{folder}: {found[key].name} and {path.name} are one case; keep one.")
        found[key] = path
    return found


def open_source(request: Request) -> Listing:
    """List the images that have a mask."""
    source: PairsSource = request.source
    root = root_of(request)
    images = _by_stem(folder_of(root, source.images, "images"), "")
    masks = _by_stem(folder_of(root, source.masks, "masks"), source.mask_suffix)
    if not images:
        raise UserError(f"{root / source.images} holds no image ({', '.join(sorted(SUFFIXES))}).")
    names, index = classes_of(source.labels)
    ids, groups, invalid = matched(images, masks, source.group_pattern)

    def read(row: int) -> tuple[np.ndarray, np.ndarray | None]:
        pixels, shape = decode(
            read_file(images[ids[row]]),
            size=request.image_size,
            channels=source.channels,
            fit=source.fit,
            min_side=source.min_side,
        )
        content = read_file(masks[ids[row]])
        values = decode_labels(content, size=request.image_size, fit=source.fit, shape=shape)
        return pixels, label_indices(values, index, "data.source.labels")

    def batches() -> Iterator[Batch]:
        return decoded_batches(len(ids), request.image_size, source.channels, read)

    return Listing(
        ids=ids,
        groups=groups,
        splits=None,
        channels=source.channels,
        batches=batches,
        source=source.path,
        licence=source.licence,
        citation=source.citation,
        foreground=names,
        invalid=invalid,
        notes={"published_groups": source.group_pattern is not None},
    )
