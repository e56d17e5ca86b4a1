"""The lock of a run that was killed holds up nobody; that of a living one stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

from edgeward.pipeline.running import from_the_future

ENTER = """
import sys
from pathlib import Path

import psutil
from edgeward.pipeline.running import LOCKS, enter
said = enter(sys.argv[1])
LOCKS.mkdir(parents=True, exist_ok=True)
(LOCKS / f"{sys.argv[1]}.input.lock").write_text("results/x")
print(said or "alone", flush=True)
sys.stdin.read()
"""


def run(folder: Path, sweep: str) -> tuple[subprocess.Popen[str], str]:
    """Start a process that enters a folder and takes Snakemake's lock; return it and what it was told."""
    process = subprocess.Popen(
        [sys.executable, "-c", ENTER, sweep],
        cwd=folder,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    return process, process.stdout.readline()


def locks(folder: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in (folder / ".snakemake/locks").iterdir()}


def test_the_lock_of_a_killed_run_is_taken_over_and_that_of_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    first, said = run(tmp_path, "first")
    assert said == "alone\n"
    second, said = run(tmp_path, "second")
    assert f"process {first.pid} works in this folder, too (sweep first)" in said
    first.kill()
    first.wait()
    third, said = run(tmp_path, "third")  # the second one lives
    assert f"process {second.pid}" in said
    assert str(first.pid) not in said
    assert locks(tmp_path) == {"first", "second", "third"}
    for process in (second, third):
        process.kill()
        process.wait()
    fourth, said = run(tmp_path, "fourth")
    fourth.communicate("")
    assert said.startswith(f"Taken over: the lock of process {third.pid} (sweep third)")
    assert locks(tmp_path) == {"fourth"}


def test_a_lock_that_nobody_here_has_made_stays(tmp_path: Path) -> None:
    held = tmp_path / ".snakemake/locks/0.input.lock"
    held.parent.mkdir(parents=True)
    held.write_text("results/x")
    process, said = run(tmp_path, "mine")
    process.communicate("")
    assert said == "alone\n"
    assert held.is_file()
    (tmp_path / ".edgeward/running").write_text('{"host": "elsewhere", "pid": 1, "sweep": "s"}\n')
    for _ in range(2):
        process, said = run(tmp_path, "mine")
        process.communicate("")
        assert said == "alone\n"
        assert held.is_file()


def test_what_is_from_the_future_is_from_now_in_its_order(tmp_path: Path) -> None:
    now = 1_000_000_000.0
    times = {
        "old": now - 50,
        "near": now + 10,
        "b/late": now + 3600,
        "b/later": now + 3601,
        "first": now + 100,
    }
    for name, then in times.items():
        path = tmp_path / "results" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (then, then))
    os.utime(tmp_path / "results" / "b", (now + 3601, now + 3601))
    assert from_the_future(tmp_path / "results", now) == 4
    found = {name: (tmp_path / "results" / name).stat().st_mtime for name in times}
    assert found["old"] == now - 50
    assert found["near"] == now + 10
    assert now - 1e-4 < found["first"] < found["b/late"] < found["b/later"] <= now
    assert from_the_future(tmp_path / "results", now) == 0
    assert from_the_future(tmp_path / "none", now) == 0


WATCHED = """
import os, subprocess, sys
os.environ["EDGEWARD_WORKFLOW"] = str(os.getpid())
job = "from edgeward.pipeline.worker import end_with_workflow; import subprocess, sys;" \\
      "end_with_workflow(); c = subprocess.Popen(['sleep', '600']); print(c.pid, flush=True); c.wait()"
subprocess.run(["bash", "-c", f"set -e; {sys.executable} -c \\"$JOB\\"; true"], env=os.environ | {"JOB": job})
"""


def test_a_job_without_a_worker_and_what_it_started_end_with_a_killed_workflow() -> None:
    workflow = subprocess.Popen([sys.executable, "-c", WATCHED], text=True, stdout=subprocess.PIPE)
    assert workflow.stdout is not None
    child = psutil.Process(int(workflow.stdout.readline()))
    job = psutil.Process(child.ppid())
    workflow.kill()
    workflow.wait()
    assert not psutil.wait_procs([child, job], timeout=60)[1]
