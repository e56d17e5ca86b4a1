"""What surrounds a stage, in a process of its own as Snakemake starts it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from edgeward.core.io import read_json
from edgeward.records.failure import Failure
from edgeward.tracking.entry import read_entry
from edgeward.tracking.outbox import pending

SCRIPT = """
import sys, threading, types
from pathlib import Path
from edgeward.core.errors import UserError
from edgeward.pipeline.job import Job

class Named(list):
    def __init__(self, **files):
        super().__init__(files.values())
        self.__dict__.update(files)
    def keys(self):
        return self.__dict__.keys()

def main(job):
    job.loaded()
    print("a library talks")
    sys.stderr.write("and warns")
    {body}

Job.of("train", types.SimpleNamespace(
    wildcards={{"data": "d", "model": "m", "seed": "0"}},
    params=types.SimpleNamespace(cfg={{"train": {{"lr": 0.1}}}}),
    input=Named(), threads=1, log=["logs/train.log"],
    output=Named(model="out/model.pt", table="out/history.csv", folder="out/figures",
                 config="out/config.yaml", metrics="out/metrics.json"),
)).execute(main)
"""


def execute(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    for name in ("out/figures/a.svg", "out/figures/b.npy", "out/model.pt", "out/history.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("epoch\n1\n")
    (folder / "script.py").write_text(SCRIPT.format(body=body))
    return subprocess.run(
        [sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, timeout=300
    )


def test_a_stage_leaves_its_slice_its_metrics_and_an_entry(tmp_path: Path) -> None:
    done = execute(tmp_path, "return {'auc': 0.5}")
    assert done.returncode == 0
    metrics = read_json(tmp_path / "out/metrics.json")
    assert metrics["auc"] == 0.5
    assert 0 < metrics["startup_s"] < 300
    assert 0 <= metrics["wall_s"] < 300
    assert yaml.safe_load((tmp_path / "out/config.yaml").read_text()) == {"train": {"lr": 0.1}}
    (path,) = pending(tmp_path / ".edgeward/outbox")
    entry = read_entry(path)
    assert entry.key == "d/m/s0/train"
    assert {p.name for p in entry.artifacts} == {
        "history.csv", "a.svg", "config.yaml", "metrics.json",
    }  # fmt: skip


def test_what_libraries_print_is_in_the_log_alone(tmp_path: Path) -> None:
    done = execute(tmp_path, "return {}")
    log = (tmp_path / "logs/train.log").read_text()
    assert "a library talks" in log
    assert "and warns" in log
    assert "talks" not in done.stdout + done.stderr
    assert "warns" not in done.stdout + done.stderr
    assert "[train d/m/0] train d/m/0 done" in done.stderr


@pytest.mark.parametrize(
    ("body", "reason", "foreseen", "traceback"),
    [
        ("raise UserError('put the file there')", "put the file there", True, False),
        ("raise ValueError('odd\\nand long')", "ValueError: odd and long", False, True),
        (
            "raise OSError(28, 'No space left on device', 'x.npy')",
            "[Errno 28] No space left on device: 'x.npy'. Make room, or the folder writable; nothing half-written is left.",
            True,
            True,
        ),
    ],
)
def test_an_error_ends_the_job_with_status_1_and_one_line(
    tmp_path: Path, body: str, reason: str, foreseen: bool, traceback: bool
) -> None:
    done = execute(tmp_path, body)
    assert done.returncode == 1
    assert f"[train d/m/0] {reason}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    log = (tmp_path / "logs/train.log").read_text()
    assert reason in log
    assert ("Traceback" in log) == traceback
    assert not (tmp_path / "out/metrics.json").exists()
    assert pending(tmp_path / ".edgeward/outbox") == []
    kept = tmp_path / "out/failed"
    told = Failure.read(kept / "failure.json")
    assert (told.label, told.reason, told.foreseen) == ("train d/m/0", reason, foreseen)
    assert told.log == "logs/train.log"
    assert told.kept == ["history.csv"]  # Snakemake will remove the one that it was copied from
    assert (kept / "history.csv").read_text() == "epoch\n1\n"

    assert execute(tmp_path, "return {}").returncode == 0
    assert not kept.exists()


@pytest.mark.parametrize(
    ("body", "status"), [("sys.exit(0)", 1), ("raise SystemExit", 1), ("sys.exit(143)", 143)]
)
def test_a_library_that_leaves_early_is_no_success(tmp_path: Path, body: str, status: int) -> None:
    done = execute(tmp_path, body)
    assert done.returncode == status
    assert "train d/m/0 was ended before it was done" in done.stderr
    assert not (tmp_path / "out/metrics.json").exists()


def test_a_thread_left_behind_does_not_keep_a_failed_job(tmp_path: Path) -> None:
    started = time.monotonic()
    body = "threading.Thread(target=threading.Event().wait, args=(3,), daemon=True).start(); raise UserError('x')"
    assert execute(tmp_path, body).returncode == 1
    assert time.monotonic() - started < 250
