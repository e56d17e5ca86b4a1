"""Resumable state is there until its job is counted, and no longer."""

from __future__ import annotations

import os
import time
from pathlib import Path

from edgeward.pipeline.work import FORGOTTEN_S, claim, drop, prune


def test_only_what_is_counted_or_forgotten_goes(tmp_path: Path) -> None:
    metrics = {
        name: Path("results") / name / "metrics.json"
        for name in ("counted", "running", "other", "forgotten")
    }
    folders = {name: claim(tmp_path / name, of) for name, of in metrics.items()}
    for folder in folders.values():
        (folder / "last.ckpt").write_text("state")
    (tmp_path / "of_an_older_version").mkdir()
    old = time.time() - FORGOTTEN_S - 60
    for path in (*folders["forgotten"].iterdir(), folders["forgotten"]):
        os.utime(path, (old, old))
    prune(tmp_path, {metrics["counted"]: True, metrics["running"]: False}.get)
    assert {folder.name for folder in tmp_path.iterdir()} == {
        "running",
        "other",
        "of_an_older_version",
    }
    assert (folders["running"] / "last.ckpt").read_text() == "state"


def test_what_is_counted_goes_and_a_running_jobs_folder_is_not_looked_into(tmp_path: Path) -> None:
    mine, other = (Path("results") / name / "metrics.json" for name in ("mine", "other"))
    claim(tmp_path / "mine", mine)
    changing = claim(tmp_path / "other", other)
    (changing / "vanished").symlink_to("nowhere")  # a file that is replaced at this moment
    drop(tmp_path, {mine})
    assert [folder.name for folder in tmp_path.iterdir()] == ["other"]
