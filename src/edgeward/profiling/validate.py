"""Check profiles against the published format: ``python -m edgeward.profiling.validate FILE...``.

With ``--schema`` it prints the format as JSON Schema (docs/profile.schema.json).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgeward.core.archives import check_regular
from edgeward.core.errors import UserError, did_you_mean
from edgeward.records.profile import Profile, json_schema

SHOWN = 60  # characters of a value that a message repeats
MOST = 50  # problems that are told
DEEPEST = 20  # levels; the format has nine
LARGEST = 64 << 20  # bytes


def _path(location: tuple[int | str, ...]) -> str:
    """Return ``settings[0].latency_ms.p50`` for a location in the document."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".") or "the document"


def _located(document: Any, location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Drop the parts of a location that name a branch of a union and are not in the document."""
    kept: list[int | str] = []
    here = document
    for part in location:
        if isinstance(here, dict) and part not in here and part != location[-1]:
            continue
        kept.append(part)
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            here = None
    return tuple(kept)


def problems(document: Any) -> list[str]:
    """Return what is wrong with a profile: where, which value, what is allowed; empty if nothing.

    Parameters
    ----------
    document : the content of the JSON file.
    """
    if isinstance(document, dict) and document.get("schema") != Profile.FORMAT:
        return [f"schema: value {document.get('schema')!r}; allowed is '{Profile.FORMAT}'"]
    if (deep := _depth(document)) > DEEPEST:
        return [f"the document: nested {deep} deep; {DEEPEST} are allowed"]
    try:
        Profile.model_validate(document)
    except ValidationError as error:
        found = []
        for item in error.errors(include_url=False)[:MOST]:
            at = _located(document, tuple(item["loc"]))
            message = item["msg"].removeprefix("Value error, ")
            if item["type"] == "missing":
                found.append(f"{_path(at)}: is missing")
            elif item["type"] == "extra_forbidden":
                hint = did_you_mean(str(at[-1]), _siblings(item["loc"]))
                found.append(f"{_path(at)}: is not a key of the format.{hint}")
            else:
                value = (
                    json.dumps(item["input"], default=str)
                    if _small(item["input"])
                    else "(a long one)"
                )
                short = value if len(value) <= SHOWN else value[:SHOWN] + " ..."
                found.append(f"{_path(at)}: value {short}: {message}")
        if (n := error.error_count()) > MOST:
            found.append(f"and {n - MOST} more")
        return found
    return []


def _depth(document: Any) -> int:
    """Return how deep a document is nested, without recursion; counting ends beyond `DEEPEST`."""
    level, depth = [document], 0
    while level and depth <= DEEPEST:
        inner = [
            v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)
        ]
        level, depth = [value for values in inner for value in values], depth + 1
    return depth


def _small(value: Any) -> bool:
    return not isinstance(value, dict | list) or len(value) <= SHOWN


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys allowed beside the last part of a location, where they can be told."""
    node: Any = json_schema()
    definitions = node["$defs"]
    for part in location[:-1]:
        while "$ref" in node:
            node = definitions[node["$ref"].rsplit("/", 1)[-1]]
        node = (
            node.get("items", {})
            if isinstance(part, int)
            else node.get("properties", {}).get(part, {})
        )
    while "$ref" in node:
        node = definitions[node["$ref"].rsplit("/", 1)[-1]]
    return list(node.get("properties", {}))


def main(arguments: list[str]) -> int:
    """Check files; return 0 if all follow the format, 1 if not, 2 if one cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m edgeward.profiling.validate", description=__doc__
    )
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("files", nargs="*", type=Path, default=[], metavar="FILE")
    group.add_argument("--schema", action="store_true", help="print the JSON Schema")
    chosen = parser.parse_args(arguments)
    if chosen.schema:
        print(json.dumps(json_schema(), indent=2))
        return 0
    status = 0
    for path in chosen.files:
        try:
            check_regular(path)
            if (size := path.stat().st_size) > LARGEST:
                raise ValueError(f"{size} bytes; {LARGEST} are allowed")
            document = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError, UserError) as error:
            print(f"{path}: cannot be read: {error}", file=sys.stderr)
            status = 2
            continue
        found = problems(document)
        for problem in found:
            print(f"{path}: {problem}", file=sys.stderr)
        if found:
            status = max(status, 1)
        else:
            if document.get("refused"):
                print(f"{path}: follows {Profile.FORMAT}; the engine refuses the model")
                continue
            verdicts = [setting["verdict"] for setting in document["settings"]]
            print(
                f"{path}: follows {Profile.FORMAT}; {verdicts.count('VALID')} of {len(verdicts)} settings VALID"
            )
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
