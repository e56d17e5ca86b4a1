"""Which files of the library a stage depends on: the import closure of its script.

Imports are read from the source, nothing is imported. Counted are those inside functions too, but not those under
``if TYPE_CHECKING``; of packages on the way their ``__init__.py``; of plugins (`load` and `load_optional` of
`edgeward.core.plugins`, with constant package and part) that module of each; and what a module names in ``READS``, paths or
patterns relative to its own folder: modules that it finds by looking into a folder, and files that are no modules. Not
followed are the rooms that surround a job without a say in what it computes. What each file refers to is kept in a cache
keyed by its size and time of change, and by those of this module.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeward.core.io import atomic, digest, sha256

PACKAGE = "edgeward"
AROUND = ("pipeline", "tracking")
LOADS = ("load", "load_optional")  # of edgeward.core.plugins
# [kind, value]: "import" a dotted name; "plugin" package:part; "file" a pattern relative to the module.
Facts = list[list[str]]
READER = Path(__file__).stat().st_mtime_ns  # what another version has read is read again


def _is_type_checking(test: ast.expr) -> bool:
    return getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING"


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes below `node`, less those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _is_type_checking(child.test):
            for other in child.orelse:
                yield other
                yield from _walk(other)
            continue
        yield child
        yield from _walk(child)


def _called(call: ast.Call) -> str:
    return str(getattr(call.func, "attr", getattr(call.func, "id", "")))


def _plugin(call: ast.Call) -> list[str]:
    """Return package and part in a call that loads a plugin; nothing of other calls."""
    given = [a.value if isinstance(a, ast.Constant) else None for a in call.args]
    named = [value for value in given[:3:2] if isinstance(value, str)]
    ours = _called(call) in LOADS and len(named) == 2 and named[0].startswith(f"{PACKAGE}.")
    return named if ours else []


def facts(source: str, package: str) -> Facts:
    """Return what a module refers to.

    Parameters
    ----------
    source : text of the module. package : dotted name of the package it lies in, for relative imports.
    """
    found: Facts = []
    for node in _walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [["import", a.name] for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *base.split(".")]).strip(
                    "."
                )
            found.append(["import", base])
            found += [["import", f"{base}.{a.name}"] for a in node.names]
        elif isinstance(node, ast.Call):
            if named := _plugin(node):
                found.append(["plugin", ":".join(named)])
        elif isinstance(node, ast.Assign) and any(
            getattr(t, "id", "") == "READS" for t in node.targets
        ):
            found += [["file", name] for name in ast.literal_eval(node.value)]
    ours = [f for f in found if f[0] != "import" or f[1].split(".")[0] == PACKAGE]
    return [list(pair) for pair in dict.fromkeys(map(tuple, ours))]


class Closure:
    """Import closures of scripts over one library.

    Parameters
    ----------
    library : folder of the package `edgeward`. Plugins may also lie in folders of this name on ``sys.path``.
    cache : JSON file that keeps what each file refers to; written by `save`.
    """

    def __init__(self, library: Path, cache: Path | None = None) -> None:
        self.cache = cache
        others = (Path(entry).resolve() / library.name for entry in sys.path)
        self.libraries = list(dict.fromkeys([library, *(p for p in others if p.is_dir())]))
        self._known: dict[str, list[Any]] = {}
        self._behind: dict[Path, list[Path]] = {}
        self._found: dict[str, list[Path]] = {}
        self._fresh = False
        if cache is not None and cache.is_file():
            with contextlib.suppress(ValueError, OSError):
                self._known = json.loads(cache.read_text())

    def save(self) -> None:
        """Write the cache, if anything in it changed."""
        if self.cache is not None and self._fresh:
            with atomic(self.cache) as temporary:
                temporary.write_text(json.dumps(self._known))

    def _facts(self, file: Path) -> Facts:
        name, stat = str(file), file.stat()
        mark = [stat.st_size, stat.st_mtime_ns, READER]
        known = self._known.get(name)
        if known is None or known[0] != mark:
            above = [p.parent for p in self.libraries if file.is_relative_to(p)]
            package = file.parent.relative_to(above[0]).parts if above else ()
            self._known[name] = known = [mark, facts(file.read_text(), ".".join(package))]
            self._fresh = True
        found: Facts = known[1]
        return found

    def _file(self, relative: str) -> Path | None:
        """Return the first file of this path in the library, or in the folders beside it."""
        return next((p for root in self.libraries if (p := root / relative).is_file()), None)

    def _imported(self, dotted: str) -> list[Path]:
        """Return the files that importing a dotted name runs."""
        if dotted not in self._found:
            found, at = [], ""
            for part in [*dotted.split(".")[1:], ""]:
                if start := self._file(f"{at}__init__.py"):
                    found.append(start)
                if part and (module := self._file(f"{at}{part}.py")):
                    found.append(module)
                    break
                if not part or not any((p / at / part).is_dir() for p in self.libraries):
                    break  # the end, or a name that a module defines
                at += f"{part}/"
            self._found[dotted] = found
        return self._found[dotted]

    def _referred(self, kind: str, value: str, file: Path) -> Iterator[Path]:
        if kind == "import":
            if value.split(".")[1:2] and value.split(".")[1] not in AROUND:
                yield from self._imported(value)
        elif kind == "plugin":
            package, part = value.split(":")
            folders = [p.joinpath(*package.split(".")[1:]) for p in self.libraries]
            there = {p.name for folder in folders if folder.is_dir() for p in folder.iterdir()}
            for plugin in sorted(there):
                if self._imported(name := f"{package}.{plugin}.{part}")[-1].parent not in folders:
                    yield from self._imported(name)
        else:
            for path in sorted(p.resolve() for p in file.parent.glob(value)):
                inside = sorted(path.rglob("*")) if path.is_dir() else [path]
                yield from (p for p in inside if p.is_file() and "__pycache__" not in p.parts)

    def _references(self, file: Path) -> list[Path]:
        if file not in self._behind:
            found = self._facts(file) if file.suffix == ".py" else []
            self._behind[file] = [
                p for kind, value in found for p in self._referred(kind, value, file)
            ]
        return self._behind[file]

    def of(self, script: Path) -> list[Path]:
        """Return the library's files that a script depends on, sorted."""
        found, todo = {script}, [script]
        while todo:
            new = set(self._references(todo.pop())) - found
            found |= new
            todo += new
        return sorted(found - {script})


def closures(library: Path, scripts: Iterable[Path], cache: Path) -> dict[str, list[Path]]:
    """Return script name (without suffix) -> files of the library that it depends on."""
    closure = Closure(library, cache)
    found = {script.stem: closure.of(script) for script in scripts}
    closure.save()
    return found


def content(library: Path, watched: Mapping[str, Iterable[Path]]) -> dict[str, str]:
    """Return stage -> digest of what its files hold and where they lie from `library`: a copy elsewhere has the same."""
    files = {file for those in watched.values() for file in those}
    found = {file: (os.path.relpath(file, library), sha256(file)) for file in files}
    return {stage: digest(sorted(found[f] for f in those)) for stage, those in watched.items()}
