"""Write what can be derived from the config tree: ``python -m edgeward.pipeline.document``.

``config/README.md`` lists every key with its value and the comment that stands above it in the YAML;
``workflow/schemas/*.json`` are the closed schemas for editors.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from edgeward.pipeline.compose import names
from edgeward.pipeline.schema import GROUPS, RunConfig, SweepConfig

TITLES = {
    "data": ("prepare", "Data sets", "one YAML is one data set"),
    "model": ("train", "Models", "one YAML is one model"),
    "train": ("train", "Training", "one YAML is one way to train"),
    "compress": ("compress", "Recipes", "one YAML is one recipe"),
    "export": ("export", "Export", "one YAML is one form of the shipped file"),
    "profile": ("profile", "Devices", "one YAML is one device"),
    "safety": ("assess", "Safety", "margins and statistics of the verdict"),
    "scaling": ("scaling", "Scaling", "untrained networks for the input sizes of a sweep"),
    "sweeps": ("all", "Sweeps", "which runs: the only thing that Snakemake's own config chooses"),
}
# The file of each group whose keys are listed in full; of the others only what they are.
SHOWN = {
    "data": ["phantom", "ham10000", "phantom3d"],
    "model": ["mobileone_s0"],
    "train": ["default", "segmentation3d"],
    "compress": ["ptq_int8", "qat_int8"],
    "export": ["onnx"],
    "profile": ["host", "ssh_example"],
    "safety": ["default"],
    "scaling": ["default"],
    "sweeps": ["default"],
}
INTRO = """# Configuration

Written by `python -m edgeward.pipeline.document` from the YAML files; edit those.

Hydra owns the values (this folder), Snakemake owns which runs (`sweeps/`). A run is one choice from every group, put
together as `config.yaml` says, changed by the sweep's `overrides`, then by those of the command line:

```
snakemake --cores all --config sweep=ham10000
snakemake --cores all --config 'overrides=["safety.multiclass.margins.recall=0.03"]'
```

Every schema is closed: a misspelt key stops the run before any job starts, and the message names the nearest key. Editing a
file re-runs exactly the stages that read it, named below. Where your data lie is not a value of an experiment:
set `EDGEWARD_DATA_ROOT` or `--config data_root=...`.
"""


def keys(text: str) -> list[tuple[str, str, str]]:
    """Return (dotted key, value as written, comment above it) of every key of a YAML text."""
    rows: list[tuple[str, str, str]] = []
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped:
            comment = []
        elif stripped.startswith("#"):
            comment.append(stripped.lstrip("# "))
        elif match := re.match(r"^(\s*)((?:- )?)([A-Za-z_][\w]*):\s*(.*?)(?:\s+#.*)?$", line):
            indent = len(match[1]) + len(match[2])
            while path and path[-1][0] >= indent:
                path.pop()
            path.append((indent, match[3]))
            rows.append((".".join(name for _, name in path), match[4], " ".join(comment)))
            comment = []
    return rows


def _first_comment(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if "yaml-language-server" not in line:
            lines.append(line.lstrip("# "))
    return " ".join(lines)


def readme(root: Path) -> str:
    """Return the text of ``config/README.md``."""
    parts = [INTRO]
    for group, (stage, title, what) in TITLES.items():
        parts.append(f"\n## {title} (`{group}/`): {what}; read by `{stage}`\n")
        for name in names(root, group):
            text = (root / group / f"{name}.yaml").read_text()
            parts.append(f"- `{name}`: {_first_comment(text)}")
        for name in SHOWN[group]:
            parts.append(f"\n| key of `{group}/{name}.yaml` | value | meaning |\n|---|---|---|")
            for key, value, comment in keys((root / group / f"{name}.yaml").read_text()):
                if value or comment:
                    cells = [c.replace("|", "\\|") for c in (value, comment)]
                    parts.append(f"| `{key}` | {f'`{cells[0]}`' if value else ''} | {cells[1]} |")
    return "\n".join(parts) + "\n"


def documents(project: Path) -> dict[Path, str]:
    """Return every derived file and its content."""
    schemas = project / "workflow" / "schemas"
    return {
        project / "config" / "README.md": readme(project / "config"),
        schemas / "run.schema.json": json.dumps(RunConfig.model_json_schema(), indent=1) + "\n",
        schemas / "sweep.schema.json": json.dumps(SweepConfig.model_json_schema(), indent=1) + "\n",
    }


def stale(project: Path) -> dict[Path, str]:
    """Return the derived files that are not what the YAML files say, and what they should be."""
    return {
        path: text
        for path, text in documents(project).items()
        if not path.is_file() or path.read_text() != text
    }


def main() -> int:
    """Write the derived files that are stale, or with ``--check`` name them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if any is stale")
    check = parser.parse_args().check
    assert set(GROUPS) < set(TITLES)
    found = stale(Path.cwd())
    for path, text in found.items():
        if not check:
            path.write_text(text)
        says = "is stale; run: python -m edgeward.pipeline.document" if check else "written"
        print(f"{path.relative_to(Path.cwd())} {says}", file=sys.stderr)
    return int(check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
