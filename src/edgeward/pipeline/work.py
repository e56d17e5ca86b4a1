"""Folders of resumable state: one a job, kept until Snakemake has counted the job, so that nothing finished is done again."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path

OF = "of"  # file of a folder that names the metrics of its job
FORGOTTEN_S = 30 * 86400.0  # of folders whose job no sweep asks for any more
LEFT_S = 2 * 86400.0  # of temporary folders of killed jobs; none runs as long


def claim(folder: Path, metrics: Path) -> Path:
    """Make the folder of the job that writes these metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / OF).write_text(f"{os.path.relpath(metrics)}\n")
    return folder


def drop(root: Path, counted: Collection[Path]) -> None:
    """Remove the folders of the jobs that write these metrics: they are counted."""
    for folder in root.glob("*/"):
        if _of(folder) in counted:
            shutil.rmtree(folder, ignore_errors=True)


def prune(root: Path, counted: Callable[[Path], bool | None]) -> None:
    """Remove folders that serve nothing any more, when no job runs.

    Parameters
    ----------
    root : folder of these folders.
    counted : tells of a job's metrics whether the job is counted as done; None: nobody asks for it.
    """
    for folder in root.glob("*/"):
        of = _of(folder)
        done = None if of is None else counted(of)
        if done or (done is None and _age(folder) > FORGOTTEN_S):
            shutil.rmtree(folder, ignore_errors=True)
    for folder in Path(tempfile.gettempdir()).glob("edgeward-*/"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.getuid() and _age(folder) > LEFT_S:
                shutil.rmtree(folder, ignore_errors=True)


def _of(folder: Path) -> Path | None:
    try:
        return Path((folder / OF).read_text().strip())
    except (OSError, UnicodeDecodeError):
        return None


def _age(folder: Path) -> float:
    times = [path.stat().st_mtime for path in (folder, *folder.iterdir())]
    return time.time() - max(times)
