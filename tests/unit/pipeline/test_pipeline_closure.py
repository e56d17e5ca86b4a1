"""What a stage watches, held against what Python really imports."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgeward.pipeline import closure
from edgeward.pipeline.closure import AROUND, Closure, Facts, closures, content

PROJECT = Path(__file__).resolve().parents[3]
LIBRARY = PROJECT / "src" / "edgeward"
SCRIPTS = sorted((PROJECT / "workflow" / "scripts").glob("*.py"))

# Runs a script's `main` until it says that its imports are done; prints the library's files that are loaded by then. What
# surrounds a stage, and would import for itself, is put aside.
LOADED = """
import runpy, sys, types

class Job:
    def loaded(self):
        raise InterruptedError

for name, stands_in in (("edgeward.pipeline.job", "Job"), ("edgeward.tracking.outbox", "quiet")):
    sys.modules[name] = types.ModuleType(name)
    setattr(sys.modules[name], stands_in, Job)
try:
    runpy.run_path(sys.argv[1])["main"](Job())
except InterruptedError:
    pass
else:
    sys.exit("main never called job.loaded()")
for name, module in sys.modules.items():
    if name.split(".")[0] == "edgeward" and getattr(module, "__file__", None):
        print(module.__file__)
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_all_that_a_stage_loads_is_watched(script: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(script)], capture_output=True, text=True, check=True
    )
    loaded = {Path(line) for line in done.stdout.splitlines()}
    ours = {file for file in loaded if file.relative_to(LIBRARY).parts[0] not in AROUND}
    assert len(ours) > 3
    assert ours <= set(Closure(LIBRARY).of(script))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A small library called `edgeward`, with a script beside it."""
    files = {
        "edgeward/__init__.py": "",
        "edgeward/room/__init__.py": "",
        "edgeward/room/stage.py": (
            "from typing import TYPE_CHECKING\n"
            "from . import near\n"
            "from edgeward.core import plugins\n"
            "if TYPE_CHECKING:\n    from edgeward.room import only_a_type\n"
            "READS = ('found/*.py', 'table.csv')\n"
            "def run():\n    import edgeward.room.late\n    plugins.load('edgeward.kinds', 'b', 'train', '')\n"
        ),
        "edgeward/room/near.py": "from ..other.far import name\nimport numpy",
        "edgeward/room/late.py": "",
        "edgeward/room/only_a_type.py": "",
        "edgeward/room/apart.py": "",
        "edgeward/room/found/a.py": "",
        "edgeward/room/table.csv": "1",
        "edgeward/other/__init__.py": "",
        "edgeward/other/far.py": "import edgeward.room.near\nname = 1",
        "edgeward/core/__init__.py": "",
        "edgeward/core/plugins.py": "",
        "edgeward/kinds/__init__.py": "",
        "edgeward/kinds/a/__init__.py": "",
        "edgeward/kinds/a/train.py": "",
        "edgeward/kinds/a/report.py": "",
        "edgeward/kinds/b/__init__.py": "",
        "edgeward/kinds/b/train.py": "",
        "edgeward/pipeline/__init__.py": "",
        "edgeward/pipeline/job.py": "import edgeward.room.apart",
        "stage.py": "import edgeward.pipeline.job\ndef main():\n    from edgeward.room.stage import run",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_what_counts_as_an_import(library: Path) -> None:
    root = library / "edgeward"
    found = {f.relative_to(root).as_posix() for f in Closure(root).of(library / "stage.py")}
    assert found == {
        "__init__.py", "room/__init__.py", "room/stage.py", "room/near.py", "room/late.py",
        "room/found/a.py", "room/table.csv", "other/__init__.py", "other/far.py",
        "core/__init__.py", "core/plugins.py", "kinds/__init__.py", "kinds/a/__init__.py",
        "kinds/a/train.py", "kinds/b/__init__.py", "kinds/b/train.py",
    }  # fmt: skip


def test_only_what_changed_is_read_again(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    facts = closure.facts

    def noted(source: str, package: str) -> Facts:
        read.append(package)
        return facts(source, package)

    monkeypatch.setattr(closure, "facts", noted)
    ask = (library / "edgeward", [library / "stage.py"], library / "cache.json")
    before = closures(*ask)
    assert len(read) > 10
    read.clear()
    assert closures(*ask) == before
    assert read == []
    (library / "edgeward/other/far.py").write_text("import edgeward.room.apart\nname = 1")
    assert set(closures(*ask)["stage"]) - set(before["stage"]) == {
        library / "edgeward/room/apart.py"
    }
    assert read == ["edgeward.other", "edgeward.room"]


def test_a_copy_has_the_same_content_and_an_edit_another(library: Path, tmp_path: Path) -> None:
    files = [*(library / "edgeward").rglob("*.py")]
    copy = tmp_path / "elsewhere"
    shutil.copytree(library / "edgeward", copy)
    copies = [copy / file.relative_to(library / "edgeward") for file in files]

    def marked(root: Path, files: list[Path]) -> str:
        return content(root, {"stage": files})["stage"]

    mark = marked(library / "edgeward", files)
    assert marked(copy, copies) == mark
    assert marked(copy, copies[::-1]) == mark
    assert marked(copy, copies[1:]) != mark
    copies[0].write_text(copies[0].read_text() + "#")
    assert marked(copy, copies) != mark


def test_a_broken_cache_is_no_obstacle(library: Path) -> None:
    (library / "cache.json").write_text("{")
    found = closures(library / "edgeward", [library / "stage.py"], library / "cache.json")
    assert library / "edgeward/room/late.py" in found["stage"]
