"""The worker: what a job that it forks shares with a process of its own, and that nothing outlives the workflow."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from edgeward.pipeline.worker import ADDRESS, ALONE, OFF

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are for Linux")

# The workflow: starts the worker, then runs each argument as a job, as Snakemake does, and notes its status.
WORKFLOW = """
import json, os, subprocess, sys
from edgeward.pipeline.worker import Workers
workers = Workers()
workers.start()
codes = []
for job in json.loads(sys.argv[1]):
    environment = {**os.environ, **job.get("environment", {})}
    codes.append(subprocess.run([sys.executable, *job["argv"]], env=environment).returncode)
workers.stop()
print(json.dumps(codes))
"""

# A job: hands over, then says what it is.
JOB = """
from edgeward.pipeline import worker
why = worker.hand_over("stage")
import json, os, sys
known = "{known}" in sys.modules
{body}
print(json.dumps({{"child": worker.client() is not None, "why": why, "argv": sys.argv, "cwd": os.getcwd(), "known": known,
                  "name": __name__, "threads": os.environ.get("OMP_NUM_THREADS")}}), flush=True)
{after}
"""


def job(
    folder: Path, name: str, body: str = "", after: str = "", known: str = "colorsys"
) -> dict[str, object]:
    (folder / name).write_text(JOB.format(body=body, after=after, known=known))
    return {"argv": [name, "further"]}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it is noted what jobs import."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    installation = hashlib.sha256(sys.prefix.encode()).hexdigest()[:16]
    return tmp_path / "cache/edgeward/imported" / installation / "stage.json"


def environment(**more: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != ADDRESS} | more


def workflow(folder: Path, *jobs: dict[str, object], **more: str) -> tuple[list[dict], list[int]]:
    done = subprocess.run(
        [sys.executable, "-c", WORKFLOW, json.dumps(jobs)],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    *said, codes = [json.loads(line) for line in done.stdout.splitlines()]
    return said, codes


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def test_a_job_is_forked_with_what_earlier_ones_imported(tmp_path: Path) -> None:
    one = job(tmp_path, "one.py", "import colorsys")
    said, codes = workflow(tmp_path, one, one)
    assert codes == [0, 0]
    assert [s["child"] for s in said] == [True, True]
    assert [s["known"] for s in said] == [False, True]
    for s in said:
        assert s["argv"] == [str(tmp_path / "one.py"), "further"]
        assert (s["cwd"], s["name"], s["why"]) == (str(tmp_path), "__main__", "")
    # Another run of the workflow knows it from the start.
    assert [s["known"] for s in workflow(tmp_path, one)[0]] == [True]


def test_the_jobs_status_is_that_of_the_process(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, "exit.py", after="sys.exit(3)"),
        job(tmp_path, "raise.py", after="raise ValueError('odd')"),
        job(tmp_path, "killed.py", after="os.kill(os.getpid(), 9)"),
        job(tmp_path, "left.py", after="import atexit; atexit.register(print, '{}')"),
    ]
    said, codes = workflow(tmp_path, *jobs)
    assert codes == [3, 1, 128 + 9, 0]
    assert said[-1] == {}, "what was registered for the end has not run"


def test_each_environment_has_a_worker_of_its_own(tmp_path: Path) -> None:
    one = job(tmp_path, "one.py", "import colorsys")
    other = {**one, "environment": {"OMP_NUM_THREADS": "3"}}
    said, _ = workflow(tmp_path, one, other, other, one, OMP_NUM_THREADS="1")
    assert [s["child"] for s in said] == [True] * 4
    assert [s["threads"] for s in said] == ["1", "3", "3", "1"]


def test_modules_of_the_project_are_imported_anew(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("VALUE = 1")
    first = job(tmp_path, "one.py", "import mine; assert mine.VALUE == 1")
    edit = "import pathlib; pathlib.Path('mine.py').write_text('VALUE = 22')"
    second = job(tmp_path, "two.py", "import mine; assert mine.VALUE == 22", known="mine")
    jobs = [first, job(tmp_path, "edit.py", edit), second]
    said, codes = workflow(tmp_path, *jobs, PYTHONPATH=str(tmp_path))
    assert codes == [0, 0, 0]
    assert not said[-1]["known"]


def test_where_importing_starts_a_thread_jobs_run_by_themselves(
    tmp_path: Path, cache: Path
) -> None:
    one = job(tmp_path, "one.py")
    cache.parent.mkdir(parents=True)
    cache.write_text(json.dumps(["no_such_module", "colorsys", "crowded.part"]))
    package = tmp_path / "crowded"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    )
    (package / "part.py").write_text("")
    said, codes = workflow(tmp_path, one, PYTHONPATH=str(tmp_path))
    assert codes == [0]
    assert not said[0]["child"]
    assert "importing crowded.part starts a thread" in said[0]["why"]
    log = (tmp_path / "logs/worker.log").read_text()
    assert "no_such_module" in log
    assert "crowded" in log
    # The next run leaves that package to the jobs.
    said, _ = workflow(tmp_path, one, PYTHONPATH=str(tmp_path))
    assert said[0]["child"]
    assert said[0]["known"]


def test_a_job_notes_which_imports_start_threads(tmp_path: Path, cache: Path) -> None:
    """onnxruntime does, and openvino; what they need is not thread-safe to fork."""
    one = job(tmp_path, "one.py", "import colorsys, onnxruntime", known="onnxruntime")
    said, _ = workflow(tmp_path, one, one)
    assert [s["child"] for s in said] == [True, True]
    names = json.loads(cache.read_text())
    assert "colorsys" in names
    assert not [name for name in names if name.startswith("onnxruntime")]


def test_it_can_be_left_out(tmp_path: Path) -> None:
    said, _ = workflow(tmp_path, job(tmp_path, "one.py"), **{ADDRESS: OFF})
    assert (said[0]["child"], said[0]["why"]) == (False, "")


def by_itself(folder: Path, address: str) -> dict[str, object]:
    """Start a job that is told of a worker at this address; return what it says."""
    job(folder, "one.py")
    done = subprocess.run(
        [sys.executable, "one.py"],
        cwd=folder,
        env=environment(**{ADDRESS: address}),
        capture_output=True,
        text=True,
        timeout=300,
    )
    said: dict[str, object] = json.loads(done.stdout)
    return said


def test_a_worker_that_is_not_there_is_done_without(tmp_path: Path) -> None:
    said = by_itself(tmp_path, f"{os.getpid()}:edgeward-none")
    assert not said["child"]
    assert "cannot be reached" in str(said["why"])


def test_a_job_of_another_tree_of_processes_stays_there(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "100"]) as stranger:  # alive, but no ancestor: as on a node
        said = by_itself(tmp_path, f"{stranger.pid}:edgeward-none")
        stranger.kill()
    assert "does not reach here" in str(said["why"])


NOTED = "import pathlib; pathlib.Path('pid').write_text(str(os.getpid()))"


def running(
    tmp_path: Path, *jobs: dict[str, object]
) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Start a workflow; return it and the child that its first job has been forked into."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKFLOW, json.dumps(jobs)],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = tmp_path / "pid"
    until(lambda: pid.exists() and pid.read_text() != "")
    return process, psutil.Process(int(pid.read_text()))


def own_process(workflow: subprocess.Popen[str]) -> psutil.Process:
    """Return the process that the workflow started for the job."""
    children = psutil.Process(workflow.pid).children()
    return next(p for p in children if "one.py" in p.cmdline())


def test_a_job_that_is_told_to_end_ends_as_it_likes(tmp_path: Path) -> None:
    wait = (
        """import signal, time
def end(*_):
    print('{}', flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
"""
        + NOTED
        + "\ntime.sleep(200)"
    )
    process, _ = running(tmp_path, job(tmp_path, "one.py", wait))
    own_process(process).send_signal(signal.SIGTERM)
    said, codes = process.communicate(timeout=100)[0].splitlines()
    assert (said, json.loads(codes)) == ("{}", [7])


def test_kill_9_of_the_jobs_own_process_ends_the_child(tmp_path: Path) -> None:
    process, child = running(
        tmp_path, job(tmp_path, "one.py", f"{NOTED}; import time; time.sleep(200)")
    )
    own_process(process).kill()
    assert json.loads(process.communicate(timeout=100)[0]) == [-9]
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_the_workflow(tmp_path: Path, number: signal.Signals) -> None:
    deep = f"import subprocess; subprocess.Popen(['sleep', '200']); {NOTED}; import time; time.sleep(200)"
    process, child = running(tmp_path, job(tmp_path, "one.py", deep))
    started = [child, *child.children(), *child.parents()[:2]]
    assert [p.name() for p in started][1] == "sleep"
    assert psutil.Process(process.pid) not in started[:3]
    process.send_signal(number)
    process.wait()
    alive = lambda p: p.is_running() and p.status() != psutil.STATUS_ZOMBIE  # noqa: E731
    until(lambda: not any(alive(p) for p in started if p.pid != process.pid), 20)


def test_what_monai_imports_starts_no_thread_in_a_worker() -> None:
    code = "import os, torch, monai.networks.nets.resnet; print(len(os.listdir('/proc/self/task')))"
    found = []
    for more in ({}, ALONE):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(int(done.stdout))
    assert found[0] > 1, "the reason for ALONE is gone: remove it"
    assert found[1] == 1
