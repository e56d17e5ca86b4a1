"""``model.pt2``: the exported program, written whole and read without executing anything in it.

`torch.export.load` falls back to unrestricted unpickling and evaluates the expressions of symbolic
sizes, so `load_program` looks into the archive first and takes only plain tensors and arithmetic.
"""

from __future__ import annotations

import importlib
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from edgeward.core.archives import check_stored
from edgeward.core.errors import UserError
from edgeward.core.io import atomic

# Names and numbers of sizes, arithmetic, and the few functions that sizes are made of.
EXPRESSION = re.compile(
    r"(?:'?\b[sun]\d+\b'?|\b\d+\b|\b(?:Symbol|Integer|Rational|Add|Mul|Pow|Max|Min|Mod|PythonMod"
    r"|FloorDiv|CleanDiv|CeilDiv|ModularIndexing|oo|int_oo|positive|nonnegative|integer|True|False)\b"
    r"|[\s+\-*/(),<>=])*",
    re.ASCII,
)
# What registers the operators that a program may use: mark in its graph -> module.
READS = ("ssm/*.py",)  # loaded by name: see edgeward.pipeline.closure
OPERATORS = {
    b"quantized_decomposed": "torch.ao.quantization.fx._decomposed",
    b"edgeward.gated_scan": "edgeward.models.ssm.gated",
    b"edgeward.selective_scan": "edgeward.models.ssm.selective",
}


def dynamic_batch() -> tuple[dict[int, Any]]:
    """Return the dynamic shapes of one image argument whose batch is at least 1."""
    return ({0: torch.export.Dim("batch", min=1)},)


def export_program(module: torch.nn.Module, example: torch.Tensor) -> ExportedProgram:
    """Export an eval-mode module from float32 (b, c, *spatial) to logits, for any b >= 1.

    Parameters
    ----------
    example : float32 (b >= 2, c, *spatial); its sides are fixed in the program.
    """
    with torch.no_grad():
        return torch.export.export(module, (example,), dynamic_shapes=dynamic_batch())


def save_program(path: Path, program: ExportedProgram) -> None:
    """Write `program` to `path`, atomically, without example inputs."""
    program.example_inputs = None
    with atomic(Path(path)) as temporary, temporary.open("wb") as handle:
        torch.export.save(program, handle)


def load_program(path: Path) -> ExportedProgram:
    """Read a program that `save_program` wrote.

    Raises
    ------
    UserError
        If the file is missing, is no such program, or holds anything that would have to be
        unpickled or evaluated.
    """
    path = Path(path)
    try:
        check_stored(path)
        with zipfile.ZipFile(path) as archive:
            graph = _check(archive, path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: run the compress stage first.") from error
    except (
        zipfile.BadZipFile,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise UserError(f"{path} is not a readable program; compress again.") from error
    for mark, module in OPERATORS.items():
        if mark in graph:
            importlib.import_module(module)
    return torch.export.load(path)


def _check(archive: zipfile.ZipFile, path: Path) -> bytes:
    """Refuse what is not plain; return the bytes of the graph."""
    graphs = []
    for name in archive.namelist():
        inner = name.split("/", 1)[-1]
        if inner.startswith("models/"):
            graphs.append(archive.read(name))
        elif inner.endswith("_config.json"):
            config = json.loads(archive.read(name))["config"].values()
            if any(entry["use_pickle"] for entry in config):
                raise UserError(f"{path}: {inner} asks for unpickling; compress again.")
        elif inner.startswith("data/sample_inputs/"):
            if archive.read(name):
                raise UserError(f"{path}: {inner} is not empty; compress again.")
        elif inner.startswith(("data/weights/", "data/constants/")):
            if not re.search(r"/(weight|tensor)_\d+$", inner):
                raise UserError(f"{path}: {inner} is not a plain tensor; compress again.")
        elif inner.startswith("data/aotinductor/"):
            raise UserError(f"{path}: {inner} is compiled code; compress again.")
    if len(graphs) != 1:
        raise UserError(f"{path} holds {len(graphs)} programs instead of one; compress again.")
    for expression in _expressions(json.loads(graphs[0])):
        if not EXPRESSION.fullmatch(expression):
            raise UserError(f"{path}: size '{expression[:80]}' is not arithmetic; compress again.")
    return graphs[0]


def _expressions(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "expr_str":
                yield str(inner)
            yield from _expressions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _expressions(inner)
