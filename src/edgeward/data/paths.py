"""Folders of the user's, below the data root."""

from __future__ import annotations

import os
from pathlib import Path

from edgeward.core.errors import UserError
from edgeward.data.listing import Request


def inside(root: Path, relative: str) -> Path:
    """Return the path of `relative` below `root`; links are followed.

    Raises
    ------
    UserError
        If it is absolute or leads out of `root`.
    """
    path = root / relative
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise UserError(f"'{relative}' leads out of {root}: only paths below it are read.")
    return path


def root_of(request: Request) -> Path:
    """Return the source's folder below the data root; UserError if there is none."""
    if request.data_root is None:
        raise UserError(
            f"data.source.path '{request.source.path}' needs a data root: name it with EDGEWARD_DATA_ROOT or "
            "--config data_root=..."
        )
    root = request.data_root / request.source.path
    if not root.is_dir():
        raise UserError(
            f"{root} is missing: put the data there, or change data.source.path (config/data/) or "
            "the data root."
        )
    return root


def folder_of(root: Path, name: str, key: str) -> Path:
    """Return a folder below `root`; UserError, with the key that names it, if there is none."""
    folder = inside(root, name)
    if not folder.is_dir():
        raise UserError(f"{folder} is missing (data.source.{key}, config/data/).")
    return folder
