"""Images or volumes of your own: class folders, split and class folders, or a CSV."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.core.errors import UserError, nearest
from edgeward.data.config import FolderSource, Labelled, VolumeFolderSource
from edgeward.data.door import BadImage, Door
from edgeward.data.labels import grouped
from edgeward.data.listing import Batch, Listing, RawCase, Request
from edgeward.data.paths import inside, root_of
from edgeward.data.pixels import SUFFIXES, decode, decoded_batches
from edgeward.data.store import SPLITS
from edgeward.data.stream import named
from edgeward.data.tables import read_table

COLUMNS = ("path", "label", "group", "split")
SIDES = {
    **{split: split for split in SPLITS}, "training": "train", "testing": "test",
    **dict.fromkeys(("valid", "validation"), "val"),
}  # fmt: skip


@dataclass
class _Found:
    """Image files with what is known of them; paths relative to the source's folder."""

    paths: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)
    invalid: list[tuple[str, str]] = field(default_factory=list)


def _cases(
    root: Path, source: Labelled, depth: int, door: Door
) -> tuple[list[str], list[tuple[str, str]]]:
    """List what may be a case below the folder: files, or folders of slices below `depth` others."""
    if isinstance(source, FolderSource):
        return door.files(root, SUFFIXES)
    if isinstance(source, VolumeFolderSource) and source.files == "nifti":
        from edgeward.data.volumes.nifti import stem  # its readers take a second to load

        names, lost = door.files(root, (".nii", ".gz"))
        return [name for name in names if stem(Path(name)) is not None], lost
    names, lost = door.files(root)
    parts = (name.split("/") for name in names)
    return sorted({"/".join(p[: depth + 1]) for p in parts if len(p) > depth + 1}), lost


def _folders(root: Path, source: Labelled, door: Door) -> _Found:
    """Walk <class>/* or {train,val,test}/<class>/*."""
    found = _Found()
    depth = 1 if source.layout == "class_folders" else 2
    names, found.invalid = _cases(root, source, depth, door)
    for name in names:
        parents = name.split("/")[:-1]
        if len(parents) < depth:
            above = " below a folder training, validation or testing" if depth == 2 else ""
            found.invalid.append((name, f"unlabelled: in no class folder{above}"))
        elif depth == 2 and parents[0].lower() not in SIDES:
            found.invalid.append((name, f"folder '{parents[0]}' is none of {', '.join(SIDES)}"))
        else:
            found.paths.append(name)
            found.labels.append(parents[depth - 1])
            found.splits += [SIDES[parents[0].lower()]] if depth == 2 else []
    return found


def _unlabelled(label: str, missing: Collection[str], source: Labelled) -> str:
    """Return why a label is none, or ""."""
    if label in (source.classes or ()):
        return ""
    if label.strip().casefold() in missing:
        return f"unlabelled: '{label}' is in data.source.missing" if label else "unlabelled"
    return ""


def _joined(label: str, labels: Collection[str]) -> bool:
    """Return whether a label is several others in a row."""
    parts = [part.strip() for part in re.split(r"[;|,/&+]", label)]
    return len(parts) > 1 and all(part in labels and part != label for part in parts)


def _table(root: Path, source: Labelled, door: Door) -> _Found:
    """Read a CSV with the columns path, label and, where known, group and split, and further ones."""
    assert source.csv is not None
    further = source.columns
    file = root / source.csv
    found = _Found(columns={column: [] for column in further})
    allowed = (*COLUMNS, *further)
    if not (file.exists() or file.is_symlink()):
        raise UserError(f"{file} is missing (data.source.csv): a CSV with {', '.join(COLUMNS)}.")
    columns, table = read_table(root, source.csv, door)
    for column in columns:
        if column not in allowed:
            guess = nearest(column, allowed)
            raise UserError(
                f"{file}: column '{column}' is unknown{f' (meant: {guess}?)' if guess else ''}; "
                f"allowed: {', '.join(allowed)}. Further columns, for subgroups, are named in data.source.columns (config/data/)."
            )
    if lacking := [column for column in further if column not in columns]:
        raise UserError(
            f"{file} has no column {', '.join(lacking)} (data.source.columns); found {columns}."
        )
    if not {"path", "label"} <= set(columns):
        raise UserError(f"{file}: columns path and label are needed, found {columns}.")
    seen: dict[str, str] = {}
    labels = {row["label"] for row in table}
    missing = {marker.strip().casefold() for marker in source.missing}
    for line, row in enumerate(table, start=2):
        path, label = row["path"], row["label"]
        if not path:
            raise UserError(f"{file}, line {line}: no path.")
        plain = os.path.normpath(path)
        if plain in seen:
            raise UserError(
                f"{file}, line {line}: '{path}' is listed twice{f', also as {seen[plain]!r}' if seen[plain] != path else ''}."
            )
        seen[plain] = path
        side = SIDES.get(row.get("split", "").lower())
        if reason := _unlabelled(label, missing, source):
            found.invalid.append((path, reason))
        elif label not in (source.classes or ()) and _joined(label, labels):
            found.invalid.append((path, f"'{label}' are several labels: one is needed"))
        elif "group" in columns and not row["group"]:
            found.invalid.append((path, "no group, while the CSV has the column"))
        elif "split" in columns and side is None:
            found.invalid.append((path, f"split '{row['split']}' is none of {', '.join(SIDES)}"))
        elif reason := _reason(door, root, path, source):
            found.invalid.append((path, reason))
        else:
            found.paths.append(path)
            found.labels.append(label)
            found.groups += [row["group"]] if "group" in columns else []
            found.splits += [side] if side is not None else []
            for column, values in found.columns.items():
                values.append(row[column])
    return found


def _reason(door: Door, root: Path, path: str, source: Labelled) -> str:
    """Return why a path leads to no case, or ""."""
    try:
        if isinstance(source, VolumeFolderSource) and source.files == "dicom":
            return "" if _slices(root, path, door) else "holds no DICOM file"
        door.file(root, path)
    except BadImage as error:
        return str(error)
    return ""


def _slices(root: Path, case: str, door: Door) -> list[Path]:
    """Return the files of a case that is a folder."""
    from edgeward.data.volumes import dicom  # its readers take a second to load

    if not inside(root, case).is_dir():
        raise BadImage("is no folder of slices (data.source.files is 'dicom')")
    return dicom.files_of(root, case, door)


def _volume(root: Path, case: str, source: VolumeFolderSource, door: Door) -> RawCase:
    from edgeward.data.volumes import dicom, nifti

    if source.files == "dicom":
        values, affine = dicom.read_series(_slices(root, case, door), door)
    else:
        values, affine = nifti.read(door.file(root, case), door)
    return RawCase(values, None, affine)


def _grouped(found: _Found, pattern: str) -> None:
    """Take each image's group from its file name."""
    if found.groups:
        raise UserError("the CSV has a group column: set data.source.group_pattern to null.")
    found.groups, lost = grouped([Path(path).name for path in found.paths], pattern)
    keep = [i for i, group in enumerate(found.groups) if group]
    reasons = (reason for _, reason in lost)
    found.invalid += [
        (path, next(reasons))
        for path, group in zip(found.paths, found.groups, strict=True)
        if not group
    ]
    found.paths, found.labels, found.groups = (
        [values[i] for i in keep] for values in (found.paths, found.labels, found.groups)
    )
    found.splits = [found.splits[i] for i in keep] if found.splits else []
    found.columns = {c: [values[i] for i in keep] for c, values in found.columns.items()}


def open_source(request: Request) -> Listing:
    """List the files, or folders of slices, below the source's folder.

    Raises
    ------
    UserError
        If the folder or CSV is missing or empty, or a path leads out of the folder.
    """
    source: Labelled = request.source
    root = root_of(request)
    door = request.door
    found = _folders(root, source, door) if source.csv is None else _table(root, source, door)
    if source.group_pattern is not None:
        _grouped(found, source.group_pattern)
    classes = source.classes or sorted(set(found.labels))
    if len(set(classes)) != len(classes) or len(classes) < 2:
        raise UserError(
            f"{root}: two or more different classes are needed, found {classes} "
            f"(layout {source.layout}; data.source.classes){named(found.invalid)}"
        )
    known = [i for i, label in enumerate(found.labels) if label in classes]
    unknown = sorted(set(range(len(found.labels))) - set(known))
    invalid = found.invalid + [
        (found.paths[i], f"label '{found.labels[i]}' is not in data.source.classes")
        for i in unknown
    ]
    paths = [found.paths[i] for i in known]

    pictures: dict[str, Any] = {}
    if isinstance(source, VolumeFolderSource):
        deep = source
        pictures["read"] = lambda row: _volume(root, paths[row], deep, door)
    else:
        assert isinstance(source, FolderSource)
        pictures["batches"] = partial(_batches, paths, root, source, request)
        pictures["channels"] = source.channels
    return Listing(
        classes=list(classes),
        ids=paths,
        labels=np.array([classes.index(found.labels[i]) for i in known], np.int64),
        groups=[found.groups[i] for i in known] if found.groups else paths,
        splits=np.array([found.splits[i] for i in known]) if found.splits else None,
        columns={c: [values[i] for i in known] for c, values in found.columns.items()},
        **pictures,
        source=source.path,
        licence=source.licence,
        citation=source.citation,
        invalid=invalid,
        notes={"published_groups": bool(found.groups)},
    )


def _batches(
    paths: list[str], root: Path, source: FolderSource, request: Request
) -> Iterator[Batch]:
    door = request.door

    def read(row: int) -> tuple[np.ndarray, np.ndarray | None]:
        content = door.read(door.file(root, paths[row]))
        pixels, _ = decode(
            content,
            size=request.image_size,
            channels=source.channels,
            fit=source.fit,
            min_side=source.min_side,
            door=door,
        )
        return pixels, None

    return decoded_batches(len(paths), request.image_size, source.channels, read, door)
