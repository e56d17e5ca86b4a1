"""What the workflow tells the processes of its jobs, outside of all composed values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeward.core.errors import UserError
from edgeward.tracking.facts import HEADLINE


def offer(project: Path, settings: Mapping[str, Any]) -> None:
    """Put the library's place and the user's data root into the environment that jobs inherit.

    Raises
    ------
    UserError
        If the data root given on the command line is no folder.
    """
    present = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    paths = dict.fromkeys([str(Path(project) / "src"), *present])
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    if "data_root" in settings:
        root = Path(str(settings["data_root"])).expanduser().resolve()
        if not root.is_dir():
            raise UserError(f"--config data_root={settings['data_root']}: {root} is not a folder.")
        os.environ["EDGEWARD_DATA_ROOT"] = str(root)


def headline(device: str) -> None:
    """Say which device's latency stands in the columns of MLflow that name none."""
    os.environ[HEADLINE] = device
