"""Nothing but a runtime's own folder asks which runtime it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgeward.core.plugins import names
from edgeward.runtimes.base import REFERENCE, runtime

LIBRARY = Path(__file__).parents[3] / "src" / "edgeward"
WORKFLOW = Path(__file__).parents[3] / "workflow"
NAMES = names("edgeward.runtimes")
# Where the reference is chosen, and what MLflow's flavour for ONNX has to install.
ALLOWED = {LIBRARY / "runtimes" / "base.py", LIBRARY / "tracking" / "registry.py"}
SEARCHED = [
    path
    for folder in (LIBRARY, WORKFLOW)
    for path in sorted(folder.rglob("*.py"))
    if not any(LIBRARY / "runtimes" / name in path.parents for name in NAMES)
]


def words(source: str) -> Iterator[str]:
    """Yield what a module imports, names and says, less comments and docstrings."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in docstrings:
                yield node.value
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Name):
            yield node.id


def test_the_search_finds_what_it_is_for() -> None:
    source = '"""onnxruntime"""\nfrom edgeward.runtimes.onnxruntime import x\nif e == "openvino":  # y\n    pass'
    found = [word for word in words(source) if any(name in word for name in NAMES)]
    assert found == ["edgeward.runtimes.onnxruntime", "openvino"]


def test_no_other_file_names_a_runtime() -> None:
    found = {
        str(path.relative_to(LIBRARY.parent)): word
        for path in SEARCHED
        if path not in ALLOWED
        for word in words(path.read_text())
        if any(name in word.lower() for name in NAMES)
    }
    assert found == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_runtime_has_the_parts_that_are_asked_of_it(name: str) -> None:
    facts = runtime(name, "")
    assert facts.name == name
    agent = {"process": "agent", "page": "page"}[facts.runs_in]
    parts = [f"{name}.{part}" for part in ("config", agent, "kernels")]
    of_file = ("session", "graph", "probes", "export")
    parts += [f"{facts.file_of}.{part}" for part in of_file]
    assert all(find_spec(f"edgeward.runtimes.{part}") for part in parts)
    assert runtime(facts.file_of, "").suffix == facts.suffix


def test_the_reference_writes_files_of_its_own() -> None:
    assert runtime(REFERENCE, "").file_of == REFERENCE
    assert find_spec(f"edgeward.runtimes.{REFERENCE}.quantizer")
