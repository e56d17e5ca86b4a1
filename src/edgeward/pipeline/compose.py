"""Compose one run: a file of each group, changed by overrides, completed with the models' defaults, and checked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from edgeward.core.errors import LONGEST, UserError, did_you_mean, one_line, unknown
from edgeward.pipeline import home
from edgeward.pipeline.schema import CHECKS, CHOSEN, GROUPS, RunConfig
from edgeward.pipeline.sections import explain, listed, merged, models_in, take_over

AXES = {"data": "data", "model": "model", "recipe": "compress", "device": "profile"}
PROJECT = home.PROJECT / "config"
OVERRIDDEN = "Change it in the sweep or in --config overrides."
Roots = tuple[Path, ...]
Name = tuple[str, str]  # group and file
MOST = 100_000  # values in a file
_READ: dict[tuple[Roots, Name], dict[str, Any]] = {}


def roots(study: Path = Path("config")) -> Roots:
    """Return the folders of config files: that of the working directory, if it has one, then the project's."""
    return tuple(dict.fromkeys(p.resolve() for p in (study, PROJECT) if p.is_dir()))


def names(roots: Roots, group: str) -> list[str]:
    """List the options of a config group, i.e. its YAML files, sorted."""
    files = (p for root in roots for p in (root / group).glob("*.yaml"))
    return sorted({p.stem for p in files if p.is_file()})


def locate(roots: Roots, group: str, name: str, what: str, where: str) -> Path:
    """Return the file of an option; `what` it is and `where` it is named are for the error.

    Raises
    ------
    UserError
    """
    known = names(roots, group)
    if name not in known:  # which also refuses what is no name of a file, or leads elsewhere
        raise unknown(what, name, known, f"{where} (or add a file to config/{group}/)")
    files = (root / group / f"{name}.yaml" for root in roots)
    return next(file for file in files if file.is_file())


def parsed(file: Path) -> dict[str, Any]:
    """Return the content of a YAML file.

    Raises
    ------
    UserError
        If it cannot be read, is no mapping, or would not fit into memory once its aliases are expanded.
    """
    try:
        content = yaml.load(file.read_text(), yaml.CSafeLoader)
        if content is None:
            content = {}
        if not isinstance(content, dict):
            raise ValueError(f"it must hold keys and values, not {type(content).__name__}")
        if _size(content, MOST) > MOST:
            raise ValueError(f"it holds more than {MOST} values")
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{shown(file)}: cannot be read: {one_line(error)}") from None
    return content


def _size(node: Any, most: int) -> int:
    """Count values, aliases expanded, and stop beyond the most."""
    parts = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    n = 1
    for part in parts:
        n += _size(part, most - n)
        if n > most:
            break
    return n


def shown(file: Path) -> str:
    """Return a path as a message names it: from the working directory, if it lies there."""
    return os.path.relpath(file) if file.is_relative_to(Path.cwd()) else str(file)


def _hydra(roots: Roots, files: Sequence[Name]) -> dict[Name, dict[str, Any]]:
    GlobalHydra.instance().clear()
    further = ",".join(f"'file://{root}'" for root in roots[1:])
    # Each file in a package of its own: one composition, which is what takes the time, reads them all.
    asked = [f"+{group}@file{i}={name}" for i, (group, name) in enumerate(files)]
    with initialize_config_dir(str(roots[0]), version_base="1.3", job_name="edgeward"):
        tree = hydra_compose(overrides=[f"hydra.searchpath=[{further}]", *asked])
    content: Any = OmegaConf.to_container(tree)
    return {file: content.get(f"file{i}") or {} for i, file in enumerate(files)}


def read(roots: Roots, files: Iterable[Name]) -> None:
    """Read files of groups, and what their ``defaults`` name, so that `compose` finds them; many at once is quick.

    Raises
    ------
    UserError
        If a file is no YAML, or names another one that does not exist.
    """
    new = [file for file in dict.fromkeys(files) if (roots, file) not in _READ]
    for group, name in new:
        parsed(locate(roots, group, name, group, "the sweep"))
    try:
        found = _hydra(roots, new) if new else {}
    except (
        HydraException,
        OmegaConfBaseException,
        yaml.YAMLError,
        ValueError,
        TypeError,
        RecursionError,
    ) as error:
        if len(new) > 1:
            for one in new:
                read(roots, [one])
        [(group, name)], reason = new, one_line(error)
        path = shown(locate(roots, group, name, group, "the sweep"))
        raise UserError(f"{path}: cannot be read: {reason}") from None
    _READ.update({(roots, file): content for file, content in found.items()})


def stated(roots: Roots, group: str, name: str) -> dict[str, Any]:
    """Return the keys that a file and those in its ``defaults`` state: quick, unchecked.

    Raises
    ------
    UserError
        If one of them cannot be read.
    """
    file = locate(roots, group, name, group, "defaults")
    content = parsed(file)
    bases = content.get("defaults", [])
    if (
        not isinstance(bases, list)
        or not all(isinstance(base, str) for base in bases)
        or name in bases
    ):
        raise UserError(f"{shown(file)}: 'defaults' must list names of other files in {group}/")
    others = [base for base in bases if base != "_self_"]
    return {k: v for base in others for k, v in stated(roots, group, base).items()} | content


@cache
def _parse(text: str) -> Override:
    try:
        change = OverridesParser.create().parse_override(text)
        if change.is_sweep_override():
            raise HydraException("it names several values; a sweep has axes for that")
    except (HydraException, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"override '{text[:LONGEST]}' cannot be read: {reason}. {OVERRIDDEN}"
        ) from None
    group = change.key_or_group.split(".")[0]
    if group not in GROUPS:
        raise UserError(
            f"override '{text}': '{group}' is unknown.{did_you_mean(group, GROUPS)} Known: "
            f"{', '.join(sorted(GROUPS))}. {OVERRIDDEN}"
        )
    return change


def _changed(node: Any, path: Sequence[str], change: Override) -> Any:
    """Return `node` with what an override says of the place at `path`."""
    if not path:
        return merged(node, change.value())
    head, *rest = path
    if isinstance(node, list):
        if not (head.isdecimal() and int(head) < len(node)):
            raise UserError(
                f"override '{change.input_line}': the entries are 0 to {len(node) - 1}, not '{head}'. {OVERRIDDEN}"
            )
        place = int(head)
        return [*node[:place], _changed(node[place], rest, change), *node[place + 1 :]]
    node = node if isinstance(node, dict) else {}
    key = next((key for key in node if str(key) == head), head)
    if change.is_delete() and not rest:
        return {k: v for k, v in node.items() if k != key}
    return {**node, key: _changed(node.get(key), rest, change)}


def _resolved(group: str, content: Any, run: dict[str, Any], file: str) -> Any:
    """Return a group without ``${..}``; it may refer to itself and to the groups before it."""
    if not any(mark in repr(content) for mark in ("${", "???")):
        return content
    try:
        tree = OmegaConf.create({**run, group: content})
        return OmegaConf.to_container(tree[group], resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{file}: {one_line(error)}") from None


def compose(roots: Roots, choices: dict[str, str], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose and check one run.

    Parameters
    ----------
    roots : folders in which files are looked for, in this order.
    choices : axis ("data", "model", "recipe", "device") -> name of a YAML in its group.
    overrides : Hydra overrides, applied last.

    Returns
    -------
    Plain containers, one entry per group, complete: what no file says has its default.

    Raises
    ------
    UserError
        Unknown name, unknown key, value out of range: names key, value, allowed and file.
    """
    return _compose(roots, tuple(choices.items()), tuple(overrides))


@cache
def _compose(
    roots: Roots, choices: tuple[tuple[str, str], ...], overrides: tuple[str, ...]
) -> dict[str, Any]:
    chosen = {group: (name, group, "the sweep") for group, name in CHOSEN.items()}
    chosen |= {AXES[axis]: (name, axis, "the sweep") for axis, name in choices}
    changes = []
    for change in map(_parse, overrides):
        group, *path = change.key_or_group.split(".")
        value = change.value()
        if not path and isinstance(value, str):
            chosen[group] = (value, group, f"override '{change.input_line}'")
        else:
            changes.append((group, path, change))
    files = {
        group: shown(locate(roots, group, name, what, where))
        for group, (name, what, where) in chosen.items()
    }
    read(roots, [(group, name) for group, (name, *_) in chosen.items()])
    run: dict[str, Any] = {}
    for group, field in GROUPS.items():
        name = chosen[group][0]
        content: Any = _READ[roots, (group, name)]
        if any("name" in model.model_fields for model in models_in(field.annotation)):
            content = {"name": name, **content}
            if content["name"] != name:
                raise UserError(
                    f"{files[group]}: 'name' is '{content['name']}', but the file is called '{name}'; results "
                    "are filed under the name of the file, so leave the key out."
                )
        mine = [(path, change) for of, path, change in changes if of == group]
        for path, change in mine:
            content = _changed(content, path, change)
        content = take_over(field, _resolved(group, content, run, files[group]), run)
        try:
            run[group] = listed(CHECKS[group].validate_python(content).model_dump())
        except ValidationError as error:
            where = partial(_source, files[group], [change for _, change in mine])
            raise explain(error, RunConfig, {group: content}, where, group) from None
    return run


def _source(file: str, changes: list[Override], key: str) -> str:
    """Return where the value of a key comes from: an override, or the file of its group."""
    for change in reversed(changes):
        theirs = change.key_or_group
        if f"{key}.".startswith(f"{theirs}."):
            return f"override '{change.input_line}' (in the sweep or --config overrides)"
        if theirs.startswith(f"{key}."):
            return f"{file} with override '{change.input_line}'"
    return file
