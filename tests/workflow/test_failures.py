"""A reference whose export is refused: the sweep goes on, the page says why, and the next run does just what is missing."""

from __future__ import annotations

import csv
import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from workspace import Workspace

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

SMOKE = ("--config", "sweep=smoke")
AT = "results/phantom_tiny/mobilenetv3_small/s0"


def test_a_failure_is_a_row_until_it_is_mended(edited: Workspace) -> None:
    program = edited.root / AT / "fp32/compress/model.pt2"
    whole = program.read_bytes()
    program.write_bytes(b"no archive")
    # A second candidate goes on meanwhile.
    (edited.root / AT / "qat_int8/profile/host_quick.json").unlink()
    left = {"export": 1, "profile": 1, "assess": 3, "interleave": 1, "report": 1}
    assert edited.planned(*SMOKE) == left | {"profile": 2}

    done = edited.snakemake(*SMOKE, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    assert (edited.root / AT / "qat_int8/profile/host_quick.json").is_file()
    tail = done.stdout[done.stdout.index("Failed (3):") :]
    assert "! failed: mobilenetv3_small fp32" in tail
    assert "Not judged, for want of its reference: fp32 failed in export" in tail
    failed = edited.root / AT / "fp32/export/failed/failure.json"
    reason = json.loads(failed.read_text())["reason"]
    assert "fp32/compress/model.pt2" in reason
    assert not (edited.root / AT / "fp32/export/model.onnx").exists()
    page = (edited.root / "results/report/smoke/index.html").read_text()
    assert 'id="failed"' in page
    with (edited.root / "results/report/smoke/comparison.csv").open(newline="") as handle:
        rows = {r["recipe"]: r["failed_stage"] for r in csv.DictReader(handle)}
    assert rows == {"fp32": "export", "ptq_int8": "assess", "qat_int8": "assess"}
    with closing(sqlite3.connect(edited.root / "mlflow.db")) as store:
        tags = "SELECT value FROM tags WHERE key = 'edgeward.failure'"
        assert sum(reason in text for (text,) in store.execute(tags)) >= 2  # the stage and the row
    assert edited.planned(*SMOKE) == left

    program.write_bytes(whole)
    edited.snakemake(*SMOKE)
    assert not failed.exists()
    assert 'id="failed"' not in (edited.root / "results/report/smoke/index.html").read_text()
    assert edited.planned(*SMOKE) == {}


def test_the_documented_commands_need_no_more_than_is_documented(edited: Workspace) -> None:
    (edited.root / ".snakemake/locks").mkdir(exist_ok=True)
    (edited.root / ".snakemake/locks/0.output.lock").write_text(f"{AT}/train/model.pt\n")
    (edited.root / ".edgeward/running").unlink()  # of another machine, as far as anybody can tell
    command = [sys.executable, "-m", "snakemake", "--unlock", *SMOKE]
    done = subprocess.run(command, cwd=edited.root, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "Unlocked working directory" in done.stderr
    assert not (edited.root / ".snakemake/locks").exists()
