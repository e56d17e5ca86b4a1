"""The files that each rule watches are those that its stage imports."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "src" / "edgeward"
COMMON = ROOT / "workflow" / "rules" / "common.smk"
# Rooms that change how a job is run and recorded, not what it computes.
AROUND = ("core", "config", "tracking")


def assigned(name: str) -> ast.expr:
    """Return the right-hand side of an assignment in the Snakefile's Python part."""
    lines = COMMON.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{name} = "))
    end = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith((" ", "]", "}")))
    statement = ast.parse("\n".join(lines[start:end])).body[0]
    assert isinstance(statement, ast.Assign)
    return statement.value


def watched() -> dict[str, list[str]]:
    names: dict[str, Any] = {}
    for name in ("STATISTICS", "MODULES"):
        code = compile(ast.Expression(assigned(name)), str(COMMON), "eval")
        names[name] = eval(code, {}, names)  # noqa: S307 - the project's own file
    return dict(names["MODULES"])


def imported(path: Path) -> set[Path]:
    """Return the library's files that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    found = set()
    for name in names:
        if name.split(".")[0] == "edgeward":
            stem = LIBRARY.parent.joinpath(*name.split("."))
            found |= {p for p in (stem.with_suffix(".py"), stem / "__init__.py") if p.is_file()}
    return found


def closure(path: Path) -> set[Path]:
    """Return all files of the library that a file imports, directly or not."""
    seen: set[Path] = set()
    todo = [path]
    while todo:
        new = imported(todo.pop()) - seen
        seen |= new
        todo += new
    return seen


@pytest.mark.parametrize("rule", sorted(watched()))
def test_a_rule_watches_all_that_its_stage_imports(rule: str) -> None:
    parts = [LIBRARY / part for part in watched()[rule]]
    assert all(part.exists() for part in parts)
    script = ROOT / "workflow" / "scripts" / f"{rule}.py"
    needed = {
        path
        for path in closure(script)
        if path.relative_to(LIBRARY).parts[0] not in AROUND and path.name != "__init__.py"
    }
    assert needed, f"{script} imports nothing of the library"
    unwatched = {
        str(path.relative_to(LIBRARY))
        for path in needed
        if not any(part == path or part in path.parents for part in parts)
    }
    assert sorted(unwatched) == [], f"add them to MODULES['{rule}'] in {COMMON.relative_to(ROOT)}"
