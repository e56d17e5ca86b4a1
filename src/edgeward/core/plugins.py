"""Plugins: a package in which every subpackage is one, found by its name.

A new task or runtime is a folder in `edgeward.tasks` or `edgeward.runtimes`. These packages extend over all of
``sys.path`` (`pkgutil.extend_path`), so a plugin may also live outside of the project.
"""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from edgeward.core.errors import unknown


def names(package: str) -> list[str]:
    """List the plugins of a package: its subpackages whose names do not begin with an underscore."""
    found = pkgutil.iter_modules(import_module(package).__path__)
    return sorted(m.name for m in found if m.ispkg and not m.name.startswith("_"))


def load(package: str, name: str, part: str, where: str) -> ModuleType:
    """Import one module of a plugin; `edgeward.pipeline.closure` follows this call to that module of every plugin.

    Parameters
    ----------
    package : that holds the plugins. name : of the plugin. part : module in its folder.
    where : file or key in which `name` stands, for the error.

    Raises
    ------
    UserError
        If there is no such plugin.
    """
    module = f"{package}.{name}.{part}"
    if module not in sys.modules and name not in names(package):  # asked by every job of a sweep
        raise unknown(package.rsplit(".", 1)[-1].rstrip("s"), name, names(package), where)
    return import_module(module)


def load_optional(package: str, name: str, part: str) -> ModuleType | None:
    """Import one module of a plugin that is there, as `load` does, or return None if it has no such part."""
    return import_module(f"{package}.{name}.{part}") if has_part(package, name, part) else None


def has_part(package: str, name: str, part: str) -> bool:
    """Tell whether a plugin has a module of this name, without importing it."""
    return find_spec(f"{package}.{name}.{part}") is not None
