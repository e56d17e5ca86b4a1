"""What the workflow tells the processes of its jobs, outside of all composed values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeward.core.errors import UserError
from edgeward.tracking.row_metrics import HEADLINE


def export_environment(project: Path, settings: Mapping[str, Any], device: str) -> None:
    """Put the library's place, the user's data root and the headline device into the environment of jobs.

    Parameters
    ----------
    project : folder that holds ``src``. settings : what ``--config`` says.
    device : whose latency stands in the columns of MLflow that name none.

    Raises
    ------
    UserError
        If the data root given on the command line is no folder.
    """
    os.environ[HEADLINE] = device
    present = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    paths = dict.fromkeys([str(Path(project) / "src"), *present])
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    if "data_root" in settings:
        root = Path(str(settings["data_root"])).expanduser().resolve()
        if not root.is_dir():
            raise UserError(f"--config data_root={settings['data_root']}: {root} is not a folder.")
        os.environ["EDGEWARD_DATA_ROOT"] = str(root)
