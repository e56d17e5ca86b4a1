"""NIfTI pairs in two folders of your own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgeward.core.errors import UserError
from edgeward.data.labels import classes_of, matched
from edgeward.data.listing import Listing, RawCase, Request
from edgeward.data.paths import folder_of, inside, root_of
from edgeward.data.volume_config import DecathlonSource, NiftiSource
from edgeward.data.volumes.nifti import read_pair, stem


def by_stem(folder: Path) -> dict[str, Path]:
    """Return the NIfTI files of a folder by the name of their case."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = stem(path)
        if name is None or path.name.startswith("."):
            continue
        inside(folder, path.name)
        if name in found:
            raise UserError(f"{folder}: {found[name].name} and {path.name} are one case; keep one.")
        found[name] = path
    return found


def paired(
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    source: DecathlonSource | NiftiSource,
    labels: Mapping[int, str],
    where: str,
    pattern: str | None = None,
) -> Listing:
    """List images with the masks of the same names; `where` names the labels, `pattern` finds the group in a name."""
    names, index = classes_of(labels)
    ids, groups, invalid = matched(images, masks, pattern)

    def read(row: int) -> RawCase:
        return read_pair(images[ids[row]], masks[ids[row]], index, where)

    return Listing(
        ids=ids,
        groups=groups,
        foreground=names,
        splits=None,
        read=read,
        source=source.path,
        licence=source.licence,
        citation=source.citation,
        invalid=invalid,
        notes={"published_groups": pattern is not None},
    )


def open_source(request: Request) -> Listing:
    """List pairs of files with the same name in two folders."""
    source: NiftiSource = request.source
    root = root_of(request)
    images = by_stem(folder_of(root, source.images, "images"))
    masks = by_stem(folder_of(root, source.masks, "masks"))
    if not images:
        raise UserError(f"{root / source.images} holds no .nii or .nii.gz file.")
    return paired(images, masks, source, source.labels, "data.source.labels", source.group_pattern)
