"""Images and their masks in two folders: segmentation in the plane with files of your own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeward.core.errors import UserError
from edgeward.data.config import PairsSource
from edgeward.data.door import BadImage
from edgeward.data.labels import classes_of, label_indices, matched
from edgeward.data.listing import Batch, Listing, Request
from edgeward.data.paths import folder_of, root_of
from edgeward.data.pixels import (
    SUFFIXES,
    decode,
    decode_labels,
    decoded_batches,
    fit_labels,
)


def _images(folder: Path, names: list[str], masks: re.Pattern[str] | None) -> dict[str, Path]:
    """Return the images of a folder by name, without the file's type; masks that lie among them are left aside."""
    found: dict[str, Path] = {}
    for name in map(Path, names):
        path = folder / name
        if masks is not None and masks.fullmatch(path.stem):
            continue
        key = name.with_suffix("").as_posix()
        if key in found:
            raise UserError(f"{folder}: {found[key].name} and {path.name} are one case; keep one.")
        found[key] = path
    return found


def _masks(
    folder: Path, names: list[str], pattern: re.Pattern[str] | None
) -> dict[str, list[Path]]:
    """Return the masks of a folder by the name of their image; one may have several."""
    found: dict[str, list[Path]] = {}
    for name in map(Path, names):
        path = folder / name
        if pattern is None:
            found.setdefault(name.with_suffix("").as_posix(), []).append(path)
        elif (of := pattern.fullmatch(path.stem)) is not None:
            found.setdefault((name.parent / of[1]).as_posix(), []).append(path)
    return found


def open_source(request: Request) -> Listing:
    """List the images that have a mask."""
    source: PairsSource = request.source
    root = root_of(request)
    suffix = source.mask_suffix
    pattern = re.compile(rf"(.*){re.escape(suffix)}(?:[_-]?\d+)?") if suffix else None
    door = request.door
    images_at, masks_at = (
        folder_of(root, source.images, "images"),
        folder_of(root, source.masks, "masks"),
    )
    found, lost = door.files(images_at, SUFFIXES, top=root)
    images = _images(images_at, found, pattern)
    if masks_at != images_at:
        found, more = door.files(masks_at, SUFFIXES, top=root)
        lost = lost + more
    masks = _masks(masks_at, found, pattern)
    if not images and not lost:
        raise UserError(f"{root / source.images} holds no image ({', '.join(sorted(SUFFIXES))}).")
    names, index = classes_of(source.labels)
    ids, groups, invalid = matched(images, masks, source.group_pattern)
    invalid += lost

    def read(row: int) -> tuple[np.ndarray, np.ndarray | None]:
        pixels, stored = decode(
            door.read(images[ids[row]]),
            size=request.image_size,
            channels=source.channels,
            fit=source.fit,
            min_side=source.min_side,
            door=door,
        )
        labels = None
        for path in masks[ids[row]]:
            values = decode_labels(door.read(path), stored=stored, door=door)
            more = label_indices(values, index, "data.source.labels")
            if labels is not None and ((labels > 0) & (more > 0) & (labels != more)).any():
                raise BadImage(f"its masks contradict each other: {path.name} and those before it")
            labels = more if labels is None else np.maximum(labels, more)
        assert labels is not None
        return pixels, fit_labels(labels, request.image_size, source.fit, door)

    def batches() -> Iterator[Batch]:
        return decoded_batches(len(ids), request.image_size, source.channels, read, door)

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
