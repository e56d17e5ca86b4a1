"""Write what can be derived from the models: ``python -m edgeward.pipeline.document``.

``config/README.md`` shows every key of ``config/`` with what it takes, its default and its meaning;
``workflow/schemas/*.json`` say the same to editors, ``docs/schemas/*.json`` what is in the files of ``results/``.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeward import records
from edgeward.models import zoo
from edgeward.pipeline.compose import AXES, names
from edgeward.pipeline.schema import CHECKS, CHOSEN, SweepConfig
from edgeward.records.base import File

TITLES = {
    "data": ("prepare", "Data sets", "one YAML is one data set"),
    "model": ("train", "Models", "one YAML is one network"),
    "train": ("train", "Training", "one YAML is one way to train"),
    "compress": ("compress", "Recipes", "one YAML is one recipe"),
    "export": ("export", "Export", "one YAML is one form of the shipped file"),
    "profile": ("profile", "Devices", "one YAML is one device"),
    "safety": ("assess", "Safety", "margins and statistics of the verdict"),
    "scaling": ("scaling", "Scaling", "untrained networks for the input sizes of a sweep"),
    "sweeps": ("all", "Sweeps", "which runs: the only thing that Snakemake's own config chooses"),
}
INTRO = """# Configuration

Written by `python -m edgeward.pipeline.document`: keys, defaults and meanings from the config models
(`src/edgeward/*/config.py`, `src/edgeward/compression/steps/`), the lists of files from the first comment of each.

Hydra owns the values (this folder), Snakemake owns which runs (`sweeps/`). A run is one file of every group (data, model,
recipe and device from the axes of the sweep; CHOSEN unless an override such as `train=ham10000` names another), changed by the
sweep's `overrides`, then by those of the command line:

```
snakemake --cores all --config sweep=ham10000
snakemake --cores all --config 'overrides=["safety.multiclass.margins.recall=0.03"]'
```

A file says what differs from the defaults below, and nothing else; an override may name any key, whether the file says it
or not. A file can start from another one of its group: `defaults: [host, _self_]`. The key `name`, where a group has it,
is the name of the file. Every schema is closed: a misspelt key stops the run before any job starts, and the message
names the nearest key. Editing a file re-runs exactly the stages that read it, named below.

**Your own study** needs no edit of this folder: files in `config/` of the working directory come first, those here second.

```
snakemake -s path/to/edgeward/Snakefile --directory my_study --config sweep=mine    # my_study/config/sweeps/mine.yaml
```

Where your data lie is not a value of an experiment: set `EDGEWARD_DATA_ROOT` or `--config data_root=...`. Editors
complete and check keys with the schemas in `workflow/schemas/`, e.g. in VS Code with
`"yaml.schemas": {"workflow/schemas/model.schema.json": "config/model/*.yaml"}`.
"""
Schema = dict[str, Any]
Row = tuple[str, str, str, str]  # key, what it takes, default, meaning


def _resolved(schema: Schema, root: Schema) -> Schema:
    """Return a schema with its ``$ref`` followed."""
    if "$ref" not in schema:
        return schema
    target: Schema = root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    return {**target, **{k: v for k, v in schema.items() if k != "$ref"}}


def _options(schema: Schema, root: Schema) -> list[Schema]:
    """List what a value can be."""
    options = schema.get("anyOf") or schema.get("oneOf") or [schema]
    flat = (inner for option in options for inner in option.get("oneOf", [option]))
    return [_resolved(option, root) for option in flat]


def _values(kind: Schema) -> list[Any]:
    values: list[Any] = kind["enum"] if "enum" in kind else [kind["const"]]
    return values


def _number(value: float) -> str:
    return f"{value:g}"


def takes(schema: Schema, root: Schema) -> str:
    """Return in words what a key takes: its type and bounds."""
    options = _options(_resolved(schema, root), root)
    if len(options) > 1:
        return " or ".join(dict.fromkeys(takes(o, root) for o in options))
    (kind,) = options
    if "const" in kind or "enum" in kind:
        return ", ".join(f"`{value}`" for value in _values(kind))
    match kind.get("type"):
        case "integer" | "number" as name:
            bounds = [
                f"{sign} {_number(kind[key])}"
                for key, sign in (
                    ("exclusiveMinimum", ">"),
                    ("minimum", ">="),
                    ("exclusiveMaximum", "<"),
                    ("maximum", "<="),
                )
                if key in kind
            ]
            return " ".join([name, ", ".join(bounds)]).strip()
        case "boolean":
            return "`true`, `false`"
        case "array" if "prefixItems" in kind:
            return f"{len(kind['prefixItems'])} x {takes(kind['prefixItems'][0], root)}"
        case "array":
            return f"list of {takes(kind.get('items', {}), root)}"
        case "object" if "properties" in kind:
            return "section"
        case "object":
            entry = kind.get("additionalProperties")
            return f"mapping to {takes(entry, root)}" if isinstance(entry, dict) else "mapping"
        case "string":
            return "text"
        case "null":
            return "null"
    return "any value"


def _default(schema: Schema, required: bool) -> str:
    if "inherits" in schema:
        return f"that of `{schema['inherits']}`"
    if required:
        return "**required**"
    return f"`{json.dumps(schema['default'], ensure_ascii=False)}`" if "default" in schema else ""


def _text(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


def rows(
    schema: Schema, root: Schema, prefix: str = "", seen: dict[Any, Any] | None = None
) -> Iterator[Row]:
    """Yield a row for every key of a section; what lies in it follows, with dotted keys.

    A section that came before, but for its defaults, is not written out again.
    """
    seen = {} if seen is None else seen
    for name, field in schema["properties"].items():
        key, value = f"{prefix}{name}", _resolved(field, root)
        required = name in schema.get("required", ()) and name != "name"
        many = isinstance(value.get("items"), dict)
        entry = _resolved(value["items"], root) if many else value
        sections = [option for option in _options(entry, root) if "properties" in option]
        text = _text(value.get("description", ""))
        if not sections:
            yield key, takes(value, root), _default(value, required), text
            continue
        forms = [entry, *(form for form in entry.get("anyOf", ()) if "discriminator" in form)]
        tag = forms[-1].get("discriminator", {}).get("propertyName", "")
        default = value.get("default")
        said = _default(value, required) if required or "inherits" in value else ""
        if default is None and "default" in value:
            said = "`null`"
        elif tag and isinstance(default, dict) and not said:
            said = f"`{tag}: {default[tag]}`"
        null = " or null" if {"type": "null"} in _options(value, root) else ""
        yield key, ("list of sections" if many else "section") + null, said, text
        for section in sections:
            inside = f"{key}[]" if many else key
            if tag:
                inside = f"{inside}({', '.join(_values(section['properties'][tag]))})"
                yield inside, "", "", _text(section.get("description", ""))
            yield from _section(section, root, f"{inside}.", tag, seen)


def _section(
    section: Schema, root: Schema, prefix: str, tag: str, seen: dict[Any, Any]
) -> Iterator[Row]:
    own = [row for row in rows(section, root) if row[0] != tag]
    kind = tuple((key, what, text) for key, what, _, text in own)
    if kind and kind in seen:
        before, defaults = seen[kind]
        other = [f"`{row[0]}`: {row[2]}" for row in own if row[2] != defaults[row[0]]]
        yield (
            f"{prefix}*",
            "",
            "; ".join(other),
            f"as `{before}*`" + (" but for these defaults" if other else ""),
        )
        return
    if len(own) > 1:
        seen[kind] = prefix, {row[0]: row[2] for row in own}
    yield from (row for row in rows(section, root, prefix, seen) if row[0] != f"{prefix}{tag}")


def _first_comment(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if "yaml-language-server" not in line:
            lines.append(line.lstrip("# "))
    return " ".join(lines)


def _schemas() -> dict[str, Schema]:
    groups = {group: check.json_schema() for group, check in CHECKS.items()}
    return {**groups, "sweeps": SweepConfig.model_json_schema()}


def readme(root: Path) -> str:
    """Return the text of ``config/README.md``."""
    schemas = _schemas()
    named = ", ".join(f"`{g}/{n}`" for g, n in CHOSEN.items() if g not in AXES.values())
    parts = [INTRO.replace("CHOSEN", named)]
    for group, (stage, title, what) in TITLES.items():
        parts.append(f"\n## {title} (`{group}/`): {what}; read by `{stage}`\n")
        for name in names((root,), group):
            text = (root / group / f"{name}.yaml").read_text()
            parts.append(f"- `{name}`: {_first_comment(text)}")
        schema = schemas[group]
        parts.append("\n| key | takes | default | meaning |\n|---|---|---|---|")
        for key, *cells in rows(schema, schema):
            cells = [cell.replace("|", "\\|") for cell in cells]
            parts.append(f"| `{key}` | {' | '.join(cells)} |")
        if group == "model":
            parts += [
                "",
                "`options` of the networks in `src/edgeward/models/zoo/` (`builder: edgeward`):\n",
            ]
            parts += [f"- `{name}`: {text}" for name, text in _networks(Path(zoo.__path__[0]))]
    return "\n".join(parts) + "\n"


def _networks(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what the docstring of each builder says of its options, without importing torch."""
    for file in sorted(folder.glob("[!_]*.py")):
        source = file.read_text()
        alias = re.search(r"^build = (\w+)", source, re.MULTILINE)
        name = alias[1] if alias else "build"
        kinds = (ast.ClassDef, ast.FunctionDef)
        (found,) = (d for d in ast.parse(source).body if isinstance(d, kinds) and d.name == name)
        text = ast.get_docstring(found) or ""
        options = text.partition("----------\n")[2] or text
        entries = [" ".join(entry.split()) for entry in re.split(r"\n(?=\S)", options)]
        said = [re.sub(r"^([\w, ]+) : (.*?)\.?$", r"`\1`: \2.", entry) for entry in entries]
        yield file.stem, " ".join(said)


def _for_editors(schema: Any) -> Any:
    """Return the schema of a file, which need not say what another one says that it starts from."""
    if isinstance(schema, list):
        return [_for_editors(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _for_editors(part) for key, part in schema.items() if key != "required"}


def _written(schema: Schema) -> str:
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def documents(project: Path) -> dict[Path, str]:
    """Return every derived file and its content."""
    editors, shown = project / "workflow" / "schemas", project / "docs" / "schemas"
    found = {project / "config" / "README.md": readme(project / "config")}
    for group, schema in _schemas().items():
        if group != "sweeps":
            schema = _for_editors(schema)
            schema["properties"]["defaults"] = {"description": "Files of the group to start from."}
        found[editors / f"{group}.schema.json"] = _written(schema)
    for record in _records(File):
        name = record.FORMAT.removeprefix("edgeward-").split("/")[0]
        if name != "profile":  # published apart: python -m edgeward.profiling.validate --schema
            found[shown / f"{name}.schema.json"] = _written(record.model_json_schema())
    return found


def _records(base: type[File]) -> Iterator[type[File]]:
    for module in pkgutil.iter_modules(records.__path__):
        importlib.import_module(f"{records.__name__}.{module.name}")
    for record in base.__subclasses__():
        if "FORMAT" in vars(record) and record.__module__.startswith(records.__name__):
            yield record


def stale(project: Path) -> dict[Path, str]:
    """Return the derived files that are not what the models say, and what they should be."""
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
    found = stale(Path.cwd())
    for path, text in found.items():
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        says = "is stale; run: python -m edgeward.pipeline.document" if check else "written"
        print(f"{path.relative_to(Path.cwd())} {says}", file=sys.stderr)
    return int(check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
