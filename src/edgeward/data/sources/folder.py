"""Image files of your own: class folders, split and class folders, or a CSV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgeward.core.errors import UserError, nearest
from edgeward.data.config import FolderSource
from edgeward.data.labels import grouped
from edgeward.data.listing import Batch, Listing, Request
from edgeward.data.paths import inside, root_of
from edgeward.data.pixels import SUFFIXES, decode, decoded_batches, read_file
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


def _folders(root: Path, source: FolderSource) -> _Found:
    """Walk <class>/* or {train,val,test}/<class>/*."""
    found = _Found()
    depth = 1 if source.layout == "class_folders" else 2
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES):
        name = path.relative_to(root).as_posix()
        parents = name.split("/")[:-1]
        inside(root, name)
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


def _table(root: Path, name: str, further: list[str]) -> _Found:
    """Read a CSV with the columns path, label and, where known, group and split, and further ones."""
    file = inside(root, name)
    found = _Found(columns={column: [] for column in further})
    allowed = (*COLUMNS, *further)
    if not file.is_file():
        raise UserError(f"{file} is missing (data.source.csv): a CSV with {', '.join(COLUMNS)}.")
    columns, table = read_table(file)
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
    seen: set[str] = set()
    for line, row in enumerate(table, start=2):
        path, label = row["path"], row["label"]
        if not path:
            raise UserError(f"{file}, line {line}: no path.")
        if path in seen:
            raise UserError(f"{file}, line {line}: '{path}' is listed twice.")
        seen.add(path)
        side = SIDES.get(row.get("split", "").lower())
        if not label:
            found.invalid.append((path, "unlabelled"))
        elif "group" in columns and not row["group"]:
            found.invalid.append((path, "no group, while the CSV has the column"))
        elif "split" in columns and side is None:
            found.invalid.append((path, f"split '{row['split']}' is none of {', '.join(SIDES)}"))
        elif not inside(root, path).is_file():
            found.invalid.append((path, "no such file"))
        else:
            found.paths.append(path)
            found.labels.append(label)
            found.groups += [row["group"]] if "group" in columns else []
            found.splits += [side] if side is not None else []
            for column, values in found.columns.items():
                values.append(row[column])
    return found


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


def _unused(root: Path, found: _Found) -> str:
    """Return why images that were found are not used, and folders that were not entered, to follow a sentence."""
    links = [
        p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_symlink() and p.is_dir()
    ]
    return named(
        [*((p, "a link to a folder, which is not followed") for p in links), *found.invalid]
    )


def open_source(request: Request) -> Listing:
    """List the image files below the source's folder.

    Raises
    ------
    UserError
        If the folder or CSV is missing or empty, or a path leads out of the folder.
    """
    source: FolderSource = request.source
    root = root_of(request)
    found = (
        _folders(root, source) if source.csv is None else _table(root, source.csv, source.columns)
    )
    if source.group_pattern is not None:
        _grouped(found, source.group_pattern)
    classes = source.classes or sorted(set(found.labels))
    if len(set(classes)) != len(classes) or len(classes) < 2:
        raise UserError(
            f"{root}: two or more different classes are needed, found {classes} "
            f"(layout {source.layout}; data.source.classes){_unused(root, found)}"
        )
    known = [i for i, label in enumerate(found.labels) if label in classes]
    unknown = sorted(set(range(len(found.labels))) - set(known))
    invalid = found.invalid + [
        (found.paths[i], f"label '{found.labels[i]}' is not in data.source.classes")
        for i in unknown
    ]
    paths = [found.paths[i] for i in known]

    def read(row: int) -> tuple[np.ndarray, np.ndarray | None]:
        content = read_file(root / paths[row])
        pixels, _ = decode(
            content,
            size=request.image_size,
            channels=source.channels,
            fit=source.fit,
            min_side=source.min_side,
        )
        return pixels, None

    def batches() -> Iterator[Batch]:
        return decoded_batches(len(paths), request.image_size, source.channels, read)

    return Listing(
        classes=list(classes),
        ids=paths,
        labels=np.array([classes.index(found.labels[i]) for i in known], np.int64),
        groups=[found.groups[i] for i in known] if found.groups else paths,
        splits=np.array([found.splits[i] for i in known]) if found.splits else None,
        channels=source.channels,
        columns={c: [values[i] for i in known] for c, values in found.columns.items()},
        batches=batches,
        source=source.path,
        licence=source.licence,
        citation=source.citation,
        invalid=invalid,
        notes={"published_groups": bool(found.groups)},
    )
