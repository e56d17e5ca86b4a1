"""Write the environments for ``snakemake --sdm conda`` from the one lock: ``python envs/build.py``.

`full.yaml` serves the stages that need torch, `runtime.yaml` the others. Versions come from
requirements.lock; what belongs to `runtime` is the closure of its roots over the installed metadata.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent
RUNTIME = [
    "numpy",
    "scipy",
    "onnx",
    "onnxruntime",
    "openvino",
    "pandas",
    "pyarrow",
    "pillow",
    "matplotlib",
    "jinja2",
    "pydantic",
    "pyyaml",
    "psutil",
    "typst",
]
DEVELOPMENT = [
    "axe-playwright-python",
    "execnet",
    "grimp",
    "hypothesis",
    "import-linter",
    "markdown-it-py",
    "mdurl",
    "mypy",
    "netcal",
    "playwright",
    "pypdf",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "relplot",
    "rich",
    "ruff",
    "slipcover",
    "snakefmt",
    "statsmodels",
]


def locked() -> dict[str, list[str]]:
    """Return canonical name -> requirement lines of the lock (several where markers differ)."""
    lines: dict[str, list[str]] = {}
    for line in (HERE.parent / "requirements.lock").read_text().splitlines():
        if match := re.match(r"^([A-Za-z0-9._-]+)==[^\\]+", line):
            lines.setdefault(canonicalize_name(match[1]), []).append(match[0].strip())
    return lines


def closure(roots: list[str]) -> set[str]:
    """Return the canonical names of `roots` and of all that they need on this platform."""
    seen: set[str] = set()
    todo = [canonicalize_name(r) for r in roots]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for text in distribution(name).requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(canonicalize_name(requirement.name))
    return seen


def render(title: str, names: set[str], lock: dict[str, list[str]]) -> str:
    """Return the text of one environment file."""
    pins = "\n".join(
        f"      - {json.dumps(line)}" for name in sorted(names) for line in lock.get(name, [])
    )
    return (
        f"# {title}. Written by envs/build.py from requirements.lock; do not edit.\n"
        "channels:\n  - conda-forge\n  - nodefaults\n"
        f"dependencies:\n  - python =3.11\n  - pip\n  - pip:\n{pins}\n"
    )


def environments() -> dict[str, str]:
    """Return file name -> content."""
    lock = locked()
    everything = set(lock) - {canonicalize_name(n) for n in DEVELOPMENT}
    return {
        "full.yaml": render("Stages that need torch", everything, lock),
        "runtime.yaml": render(
            "Stages that need no torch: profile, assess, report", closure(RUNTIME), lock
        ),
    }


if __name__ == "__main__":
    for name, text in environments().items():
        (HERE / name).write_text(text)
        print(f"wrote {name}", file=sys.stderr)
