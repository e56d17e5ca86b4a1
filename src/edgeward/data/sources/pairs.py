"""Images and their masks in two folders: segmentation in the plane with files of your own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeward.core.errors import UserError
from edgeward.data.config import PairsSource
from edgeward.data.labels import classes_of, label_indices, matched
from edgeward.data.listing import BadImage, Batch, Listing, Request
from edgeward.data.paths import folder_of, inside, root_of
from edgeward.data.pixels import (
    SUFFIXES,
    decode,
    decode_labels,
    decoded_batches,
    read_file,
)


def _files(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the image files of a folder, and their paths below it."""
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        name = path.relative_to(folder)
        inside(folder, str(name))
        yield path, name


def _images(folder: Path, masks: re.Pattern[str] | None) -> dict[str, Path]:
    """Return the images of a folder by name, without the file's type; masks that lie among them are left aside."""
    found: dict[str, Path] = {}
    for path, name in _files(folder):
        if masks is not None and masks.fullmatch(path.stem):
            continue
        key = name.with_suffix("").as_posix()
        if key in found:
            raise UserError(f"{folder}: {found[key].name} and {path.name} are one case; keep one.")
        found[key] = path
    return found


def _masks(folder: Path, pattern: re.Pattern[str] | None) -> dict[str, list[Path]]:
    """Return the masks of a folder by the name of their image; one may have several."""
    found: dict[str, list[Path]] = {}
    for path, name in _files(folder):
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
    images = _images(folder_of(root, source.images, "images"), pattern)
    masks = _masks(folder_of(root, source.masks, "masks"), pattern)
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
        values = None
        for path in masks[ids[row]]:
            more = decode_labels(
                read_file(path), size=request.image_size, fit=source.fit, shape=shape
            )
            if values is not None and ((values > 0) & (more > 0) & (values != more)).any():
                raise BadImage(f"its masks contradict each other: {path.name} and those before it")
            values = more if values is None else np.maximum(values, more)
        assert values is not None
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
