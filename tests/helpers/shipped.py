"""The shipped configuration, complete as stages get it."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from edgeward.pipeline.compose import compose, names

ROOTS = (Path(__file__).resolve().parents[2] / "config",)


def shipped(group: str, name: str, *overrides: str) -> dict[str, Any]:
    """Return the values of ``config/<group>/<name>.yaml``, a copy."""
    return deepcopy(compose(ROOTS, {}, (f"{group}={name}", *overrides))[group])


def all_of(group: str) -> list[str]:
    """List the files of a group."""
    return names(ROOTS, group)
