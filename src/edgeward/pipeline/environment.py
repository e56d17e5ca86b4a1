"""What the workflow tells the processes of its jobs, outside of all composed values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeward.core.errors import UserError
from edgeward.models.config import WEIGHTS_ROOT
from edgeward.pipeline.home import CHECKOUT, LIBRARY
from edgeward.tracking.row_metrics import HEADLINE


def export_environment(settings: Mapping[str, Any], device: str) -> None:
    """Put the library's place, the user's data and weights roots and the headline device into the environment of jobs.

    Parameters
    ----------
    settings : what ``--config`` says.
    device : whose latency stands in the columns of MLflow that name none.

    Raises
    ------
    UserError
        If a root given on the command line is no folder.
    """
    os.environ[HEADLINE] = device
    if CHECKOUT:  # an installed library is found without
        present = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
        paths = dict.fromkeys([str(LIBRARY.parent), *present])
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    for name, variable in (("data_root", "EDGEWARD_DATA_ROOT"), ("weights_root", WEIGHTS_ROOT)):
        if name not in settings:
            continue
        try:
            root = Path(str(settings[name])).expanduser().resolve()
            there = root.is_dir()
        except (
            OSError,
            ValueError,
            RuntimeError,
        ) as error:  # no path at all, too long, no such home
            raise UserError(f"--config {name}={settings[name]!r}: {error}.") from None
        if not there:
            raise UserError(f"--config {name}={settings[name]}: {root} is not a folder.")
        os.environ[variable] = str(root)
