"""Images with several findings each, by a table that lists them, or that has a column for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from edgeward.core.errors import UserError, nearest
from edgeward.core.text import listing as listed
from edgeward.data.config import TableSource
from edgeward.data.door import Door
from edgeward.data.findings import UNKNOWN, Findings
from edgeward.data.labels import grouped
from edgeward.data.listing import Batch, Listing, Request
from edgeward.data.paths import inside, root_of
from edgeward.data.pixels import (
    SUFFIXES,
    decode,
    decoded_batches,
    images_of,
    open_archive,
    read_member,
)
from edgeward.data.sources.folder import SIDES
from edgeward.data.tables import read_table

VALUES = {"1": 1, "0": 0, "-1": UNKNOWN, "true": 1, "false": 0}
POLICY = {"ignore": UNKNOWN, "zero": 0, "one": 1}
Read = Callable[[], bytes]


class Files:
    """Image files by the name that a table gives them: with its folders, or without where it is the only one of that name."""

    def __init__(self, root: Path, places: Sequence[str], door: Door) -> None:
        self._door = door
        self._of_path: dict[str, Read] = {}
        self._of_name: dict[str, Read | None] = {}
        for place in places:
            path = inside(root, place)
            if path.is_dir():
                self._folder(path)
            elif path.is_file():
                self._archive(path)
            else:
                raise UserError(f"{path} is missing (data.source.images, config/data/).")

    def _folder(self, root: Path) -> None:
        names, _ = self._door.files(root, SUFFIXES)
        for name in names:
            self._add(name, lambda n=name: self._door.read(self._door.file(root, n)))  # type: ignore[misc]

    def _archive(self, path: Path) -> None:
        archive = open_archive(path, self._door)
        for name, member in images_of(archive, path):
            self._add(str(name), partial(read_member, archive, member, self._door))
            self._door.count(len(self._of_path), path)

    def _add(self, path: str, read: Read) -> None:
        self._of_path.setdefault(path, read)
        name = PurePosixPath(path).name
        self._of_name[name] = None if name in self._of_name else read

    def find(self, name: str) -> Read | None:
        """Return what reads a file, or None if there is none, or several and the name does not say which."""
        exact = self._of_path.get(name.replace("\\", "/").removeprefix("./"))
        return exact or self._of_name.get(PurePosixPath(name).name)


@dataclass
class _Rows:
    """What the table says: the rows of each image, in the order of their first one."""

    of: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    invalid: list[tuple[str, str]] = field(default_factory=list)


def _header(file: Path, columns: Sequence[str], source: TableSource) -> None:
    """Refuse a table without the columns that the configuration names."""
    named = {
        "image": source.image, "group": source.group, "split": source.split, "labels": source.labels,
        **{f"columns[{i}]": name for i, name in enumerate(source.columns)},
    }  # fmt: skip
    if source.labels is None:
        named |= {f"findings[{i}]": name for i, name in enumerate(source.findings or ())}
    for key, name in named.items():
        if name is not None and name not in columns:
            guess = nearest(name, columns)
            raise UserError(
                f"{file} has no column '{name}' (data.source.{key}, config/data/)"
                f"{f'; meant: {guess}?' if guess else ''} Found: {', '.join(columns)}."
            )


def words(cell: str, separator: str) -> list[str]:
    """Return the findings that a cell lists; brackets and quotes, as of a printed list of Python, are dropped."""
    parts = (part.strip().strip("[]'\"").strip() for part in cell.split(separator))
    return list(dict.fromkeys(part for part in parts if part))


class _Reader:
    """From rows of the table to values of findings.

    Attributes
    ----------
    said : word of the `labels` column that is no finding -> cells with it.
    """

    def __init__(self, source: TableSource, rows: Mapping[str, list[dict[str, str]]]) -> None:
        self.source, self.said = source, dict[str, int]()
        if source.findings is not None:
            self.names = list(source.findings)
        else:
            assert source.labels is not None
            every = (words(r[source.labels], source.separator) for rs in rows.values() for r in rs)
            self.names = sorted({word for cell in every for word in cell} - set(source.none))
        if len(set(self.names)) != len(self.names) or len(self.names) < 2:
            raise UserError(
                f"two or more different findings are needed, found {self.names} (data.source.findings, config/data/)."
            )

    def row(self, row: dict[str, str]) -> list[int] | str:
        """Return the values of one row, or why it has none."""
        return self._columns(row) if self.source.labels is None else self._listed(row)

    def _listed(self, row: dict[str, str]) -> list[int] | str:
        source = self.source
        found = words(row[source.labels or ""], source.separator)
        other = [w for w in found if w not in self.names and w not in source.none]
        for word in other:
            self.said[word] = self.said.get(word, 0) + 1
        if other and source.others == "refuse":
            return f"label {listed([repr(w) for w in other])} is not in data.source.findings"
        empty = [w for w in found if w in source.none]
        if empty and len(found) > len(empty) + len(other):
            return f"'{empty[0]}' and findings at once"
        return [int(name in found) for name in self.names]

    def _columns(self, row: dict[str, str]) -> list[int] | str:
        values = []
        for name in self.names:
            cell = row[name].strip().lower()
            value = VALUES.get(re.sub(r"\.0+$", "", cell)) if cell else None
            if cell and value is None:
                return f"'{row[name]}' in column {name}; 1, 0, -1 or nothing is known"
            key = "missing" if value is None else "uncertain"
            if value is None or value == UNKNOWN:
                policy = getattr(self.source, key)
                if policy == "refuse":
                    what = "nothing" if value is None else "uncertain (-1)"
                    return f"{what} in column {name}; say what that counts as (data.source.{key})"
                value = POLICY[policy]
            values.append(value)
        return values

    def together(self, rows: list[list[int]]) -> list[int] | str:
        """Return the values of one image from those of its rows, or why that cannot be said."""
        if len(rows) == 1:
            return rows[0]
        if self.source.repeated == "refuse":
            differ = [name for name, *v in zip(self.names, *rows, strict=True) if len(set(v)) > 1]
            told = f"which contradict each other in {listed(differ)}" if differ else "which agree"
            return f"{len(rows)} rows, {told} (data.source.repeated)"
        known = np.array(rows)
        yes, no = (known == 1).sum(axis=0), (known == 0).sum(axis=0)
        there = yes > 0 if self.source.repeated == "any" else yes > no
        return np.where(yes + no == 0, UNKNOWN, there.astype(int)).tolist()


def _alone(row: Sequence[dict[str, str]], column: str) -> str | None:
    """Return what all rows of an image say in a column, or None if they differ."""
    said = {r[column].strip() for r in row}
    return said.pop() if len(said) == 1 else None


def open_source(request: Request) -> Listing:
    """List the images of the table.

    Raises
    ------
    UserError
        If the table or a folder is missing, or a column that the configuration names.
    """
    source: TableSource = request.source
    root = root_of(request)
    file = inside(root, source.csv)
    if not file.is_file():
        raise UserError(f"{file} is missing (data.source.csv, config/data/).")
    columns, table = read_table(root, source.csv, request.door)
    _header(file, columns, source)
    rows: dict[str, list[dict[str, str]]] = {}
    for line, row in enumerate(table, start=2):
        if not row[source.image]:
            raise UserError(f"{file}, line {line}: no image (column {source.image}).")
        rows.setdefault(row[source.image] + source.suffix, []).append(row)
    files, reader = Files(root, source.images, request.door), _Reader(source, rows)
    pattern = source.group_pattern
    of_name = dict(zip(rows, grouped(list(rows), pattern)[0], strict=True))
    ids: list[str] = []
    reads: list[Read] = []
    values: list[list[int]] = []
    groups: list[str] = []
    splits: list[str] = []
    further: dict[str, list[str]] = {name: [] for name in source.columns}
    invalid: list[tuple[str, str]] = []
    for name, mine in rows.items():
        said = [reader.row(row) for row in mine]
        wrong = next((reason for reason in said if isinstance(reason, str)), None)
        value = wrong or reader.together([v for v in said if not isinstance(v, str)])
        read = files.find(name)
        group: str | None = name
        if source.group is not None:
            group = _alone(mine, source.group)
        elif pattern is not None:
            group = of_name[name]
        side = (
            None if source.split is None else SIDES.get((_alone(mine, source.split) or "").lower())
        )
        if isinstance(value, str):
            invalid.append((name, value))
        elif read is None:
            invalid.append((name, f"no such file in {listed(source.images)}"))
        elif not group:
            invalid.append((name, "its group is not known (data.source.group, group_pattern)"))
        elif source.split is not None and side is None:
            invalid.append((name, f"column {source.split} says none of {', '.join(SIDES)}"))
        else:
            ids.append(name)
            reads.append(read)
            values.append(value)
            groups.append(group)
            splits += [] if side is None else [side]
            for column, known in further.items():
                known.append(_alone(mine, column) or "")

    def pixels(row: int) -> tuple[np.ndarray, np.ndarray | None]:
        found, _ = decode(
            reads[row](),
            size=request.image_size,
            channels=source.channels,
            fit=source.fit,
            min_side=source.min_side,
            door=request.door,
        )
        return found, None

    def batches() -> Iterator[Batch]:
        return decoded_batches(len(ids), request.image_size, source.channels, pixels, request.door)

    found = np.array(values, np.int8).reshape(len(ids), len(reader.names))
    return Listing(
        ids=ids,
        groups=groups,
        findings=Findings(reader.names, found),
        splits=np.array(splits) if source.split is not None else None,
        channels=source.channels,
        columns=further,
        batches=batches,
        source=source.path,
        licence=source.licence,
        citation=source.citation,
        invalid=invalid,
        notes={
            "published_groups": source.group is not None or pattern is not None,
            "unknown_values": int((found == UNKNOWN).sum()),
            "labels_dropped": dict(sorted(reader.said.items(), key=lambda kv: -kv[1])),
        },
    )
