"""kill -9 in the middle of train and of compress: a second start goes on and ends with the same bytes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from workspace import Workspace, copy_project

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

AT = "results/phantom_tiny/mobilenetv3_small/s0"


def start_and_kill(workspace: Workspace, target: str, reached: Callable[[], bool]) -> None:
    """Start Snakemake on `target` and kill it and all its jobs as soon as `reached` is true; nothing is unlocked by hand."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "snakemake",
            "--cores",
            "2",
            "--config",
            "sweep=smoke",
            "--",
            target,
        ],
        cwd=workspace.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 500
    try:
        while not reached():
            assert process.poll() is None, f"{target} ended before it could be killed"
            assert time.monotonic() < deadline, f"{target} never got so far"
            time.sleep(0.02)
    finally:
        with contextlib.suppress(ProcessLookupError):  # ended by itself: said above
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    until_gone(workspace)


def until_gone(workspace: Workspace) -> None:
    """Wait until no worker of the workspace, and no job that it forked, is left."""
    deadline = time.monotonic() + 20
    while any("edgeward.pipeline.worker" in " ".join(line) for line in running_in(workspace.root)):
        assert time.monotonic() < deadline, "a worker outlives the workflow"
        time.sleep(0.05)


def running_in(folder: Path) -> list[list[str]]:
    """Return the command lines of the processes whose working directory is `folder`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()) == folder:
                found.append(process.cmdline())
    return found


def saved(workspace: Workspace, pattern: str) -> bool:
    """Tell whether a resumable state is on disk."""
    return any((workspace.root / ".edgeward/work").glob(pattern))


def log_of(workspace: Workspace, stage: str) -> str:
    path = workspace.root / "logs/phantom_tiny/mobilenetv3_small/s0" / f"{stage}.log"
    return path.read_text() if path.exists() else ""


def test_killed_runs_end_as_uninterrupted_ones(smoke: Workspace, tmp_path: Path) -> None:
    workspace = copy_project(tmp_path / "project")
    model, program = f"{AT}/train/model.pt", f"{AT}/qat_int8/compress/model.pt2"

    start_and_kill(workspace, model, lambda: saved(workspace, "train-*/last.ckpt"))
    assert not (workspace.root / model).exists()
    workspace.snakemake("--config", "sweep=smoke", "--", model)
    assert "epoch 1/" not in log_of(workspace, "train"), "the first epoch was computed again"
    assert (workspace.root / model).read_bytes() == (smoke.root / model).read_bytes()

    start_and_kill(workspace, program, lambda: saved(workspace, "compress-*/**/finetune.pt"))
    assert not (workspace.root / program).exists()
    onnx = f"{AT}/qat_int8/export/model.onnx"
    # Started by a worker, ended in processes of their own: neither leaves a mark on what is computed.
    workspace.snakemake("--config", "sweep=smoke", "--", onnx, EDGEWARD_WORKER="off")
    assert "epoch 1/" not in log_of(workspace, "qat_int8/compress")
    assert (workspace.root / onnx).read_bytes() == (smoke.root / onnx).read_bytes()
