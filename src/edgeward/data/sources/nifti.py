"""NIfTI pairs in two folders of your own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgeward.core.errors import UserError
from edgeward.data.door import BadImage, Door, shown
from edgeward.data.labels import classes_of, matched
from edgeward.data.listing import Listing, RawCase, Request
from edgeward.data.paths import folder_of, root_of
from edgeward.data.volume_config import DecathlonSource, NiftiSource
from edgeward.data.volumes.nifti import read_pair, stem

Reasons = list[tuple[str, str]]


def by_stem(root: Path, folder: Path, door: Door) -> tuple[dict[str, Path], Reasons]:
    """Return the NIfTI files of a folder below `root` by the name of their case, and what of that name is no file."""
    found: dict[str, Path] = {}
    lost: Reasons = []
    for path in sorted(folder.iterdir()):
        name = stem(path)
        if name is None or path.name.startswith("."):
            continue
        if name in found:
            raise UserError(f"{folder}: {found[name].name} and {path.name} are one case; keep one.")
        try:
            found[name] = door.file(root, path.relative_to(root))
        except BadImage as error:
            lost.append((f"{folder.name}/{shown(path.name)}", str(error)))
        door.count(len(found), folder)
    return found, lost


def paired(
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    source: DecathlonSource | NiftiSource,
    labels: Mapping[int, str],
    where: str,
    door: Door,
    pattern: str | None = None,
) -> Listing:
    """List images with the masks of the same names; `where` names the labels, `pattern` finds the group in a name."""
    names, index = classes_of(labels)
    ids, groups, invalid = matched(images, masks, pattern)

    def read(row: int) -> RawCase:
        return read_pair(images[ids[row]], masks[ids[row]], index, where, door)

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
    door = request.door
    images, lost = by_stem(root, folder_of(root, source.images, "images"), door)
    masks, lost_masks = by_stem(root, folder_of(root, source.masks, "masks"), door)
    if not images and not lost:
        raise UserError(f"{root / source.images} holds no .nii or .nii.gz file.")
    pattern = source.group_pattern
    found = paired(images, masks, source, source.labels, "data.source.labels", door, pattern)
    found.invalid.extend(lost + lost_masks)
    return found
