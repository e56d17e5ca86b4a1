"""Compose one run from the Hydra tree, resolved to plain containers and validated."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from edgeward.core.errors import UserError, did_you_mean, unknown
from edgeward.pipeline.schema import GROUPS, RunConfig, explain

CHOICES = {"data": "data", "model": "model", "recipe": "compress", "device": "profile"}


def names(root: Path, group: str) -> list[str]:
    """List the options of a config group, i.e. its YAML files, sorted."""
    return sorted(p.stem for p in (root / group).glob("*.yaml") if not p.stem.startswith("_"))


def _key_error(root: Path, chosen: tuple[str, ...], override: str, message: str) -> UserError:
    """Explain an override whose key does not exist."""
    key = re.split(r"[=@]", override.lstrip("+~"), maxsplit=1)[0]
    node: Any = _compose(root, chosen)
    parts = key.split(".")
    for depth, part in enumerate(parts):
        found = node if isinstance(node, dict) else {}
        if isinstance(node, list):
            found = dict(enumerate(node))
        entries = {str(k): v for k, v in found.items()}
        if part not in entries:
            allowed = sorted(entries)
            hint = did_you_mean(part, allowed, "".join(f"{p}." for p in parts[:depth]))
            return UserError(
                f"override '{override}': key '{key}' is unknown.{hint} Allowed here: "
                f"{', '.join(allowed) or 'nothing'}. Change it in the sweep or in --config overrides."
            )
        node = entries[part]
    return UserError(f"override '{override}' cannot be applied: {message}")


@cache
def _compose(root: Path, overrides: tuple[str, ...]) -> dict[str, Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(root.resolve()), version_base="1.3", job_name="edgeward"):
        config = hydra_compose("config", overrides=list(overrides))
    content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(content, dict)
    return {str(k): v for k, v in content.items()}


def compose(root: Path, choices: dict[str, str], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose, resolve and validate one run.

    Parameters
    ----------
    root : the ``config/`` folder.
    choices : axis ("data", "model", "recipe", "device") -> name of a YAML in its group.
    overrides : Hydra overrides, applied last.

    Returns
    -------
    Plain containers, one entry per group.

    Raises
    ------
    UserError
        Unknown name, unknown key, value out of range: names key, value, allowed and file.
    """
    chosen = []
    for axis, name in choices.items():
        group = CHOICES[axis]
        if name not in names(root, group):
            raise unknown(
                f"{axis}",
                name,
                names(root, group),
                f"the sweep (or add config/{group}/{name}.yaml)",
            )
        chosen.append(f"{group}={name}")
    try:
        content = _compose(root, (*chosen, *overrides))
    except (ConfigCompositionException, HydraException, OmegaConfBaseException) as error:
        for override in overrides:
            try:
                _compose(root, (*chosen, override))
            except (ConfigCompositionException, HydraException, OmegaConfBaseException) as inner:
                reason = str(inner).splitlines()[0]
                raise _key_error(root, tuple(chosen), override, reason) from None
        raise UserError(f"config/ cannot be composed for {choices}: {error}") from None
    files = {group: f"config/{group}/" for group in GROUPS}
    files |= {
        CHOICES[axis]: f"config/{CHOICES[axis]}/{name}.yaml" for axis, name in choices.items()
    }
    try:
        RunConfig.model_validate(content)
    except ValidationError as error:
        raise explain(error, RunConfig, files, "config/config.yaml") from None
    for axis, name in choices.items():
        stated = content[CHOICES[axis]]["name"]
        if stated != name:
            raise UserError(
                f"{files[CHOICES[axis]]}: 'name' is '{stated}', but the file is called '{name}'; "
                "they must agree, because results are filed under the name."
            )
    return content
