"""Real processes: a fresh store opened by many, a deliverer and a server killed in the middle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from tracking_world import World

from edgeward.tracking.deliver import main
from edgeward.tracking.locks import only_deliverer
from edgeward.tracking.loop import Deliverer
from edgeward.tracking.outbox import pending
from edgeward.tracking.store import init_store

HELPERS = Path(__file__).parents[2] / "helpers"
STAGES = Counter({"compress": 2, "export": 2, "profile": 2, "assess": 2, "train": 1})


def until(condition: Callable[[], object], what: str, limit_s: float = 120) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {limit_s} s for {what}"
        time.sleep(0.05)


def poster(root: Path, data: str, model: str) -> subprocess.Popen[bytes]:
    """Start a process that posts all stages of two candidates."""
    command = [sys.executable, str(HELPERS / "tracking_world.py"), str(root), data, model]
    return subprocess.Popen([*command, "fp32", "ptq_int8"])


def deliverer(root: Path, uri: str, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edgeward.tracking.deliver"]
    target = ["--outbox", str(root / ".edgeward" / "outbox"), "--uri", uri, "--experiment", "e"]
    environment = os.environ | {"MLFLOW_RUN_ID": "0" * 32}  # it must not disturb
    return subprocess.Popen([*command, *target, *options], env=environment)


def check(uri: str, data: str, models: list[str]) -> None:
    """Assert that every stage of every candidate is there exactly once, under its own row."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("e")
    mine = f"tags.\"edgeward.data\" = '{data}'"
    runs = client.search_runs([experiment.experiment_id], mine, max_results=1000)
    for model in models:
        own = [r for r in runs if r.data.tags.get("edgeward.model") == model]
        stages = [r for r in own if r.data.tags["edgeward.kind"] == "stage"]
        assert Counter(r.data.tags["edgeward.stage"] for r in stages) == STAGES
        rows = {r.info.run_id: r for r in own if r.data.tags["edgeward.kind"] == "candidate"}
        assert {r.data.tags["edgeward.recipe"] for r in rows.values()} == {"fp32", "ptq_int8"}
        assert len(rows) == 2
        children = Counter(
            r.data.tags["mlflow.parentRunId"] for r in stages if "mlflow.parentRunId" in r.data.tags
        )
        assert children == dict.fromkeys(rows, 4)
        for row in rows.values():
            assert {"latency_p50_ms", "rare_recall", "file_mb"} <= set(row.data.metrics)
            assert len(client.get_metric_history(row.info.run_id, "rare_recall")) == 1
        name = f"{data}.{model}.ptq_int8"
        assert len(client.search_model_versions(f"name='{name}'")) == 1
        assert set(client.get_registered_model(name).aliases) == {"candidate"}


def _open_store(uri: str) -> str:
    return init_store(uri, "fresh")[1]


def test_a_fresh_store_opened_by_many_at_once(tmp_path: Path) -> None:
    """Without the lock this ruins the store: tables made twice, migrations run twice."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with get_context("fork").Pool(4) as pool:
        assert len(set(pool.map(_open_store, [uri] * 4))) == 1
    client, experiment_id = init_store(uri, "fresh")
    run = client.create_run(experiment_id)
    assert run.info.artifact_uri.startswith(str(tmp_path / "mlruns" / "fresh"))


@pytest.mark.slow
def test_jobs_post_at_once_into_a_fresh_store_while_the_deliverer_is_killed(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    outbox = tmp_path / ".edgeward" / "outbox"
    sweep = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    first = deliverer(tmp_path, uri, "--follow", str(sweep.pid))
    jobs = [poster(tmp_path, "phantom", model) for model in ("a", "b")]
    assert [job.wait() for job in jobs] == [0, 0]
    seen = len(pending(outbox))
    until(lambda: seen - len(pending(outbox)) >= 2, "the first deliveries")
    first.kill()
    first.wait()
    assert 0 < len(pending(outbox)) < 18
    second = deliverer(tmp_path, uri, "--follow", str(sweep.pid))
    until(lambda: not pending(outbox), "the outbox to be empty")
    assert second.poll() is None  # it follows the sweep
    last = World(tmp_path, "phantom")
    last.prepare()  # posted with the sweep's last breath
    second.terminate()  # as the workflow ends it
    assert second.wait(60) == 0
    sweep.communicate(b"\n")
    assert pending(outbox) == []
    assert not (outbox / "failed").exists()
    assert (last.folder("phantom", "prepare") / "mlflow.json").is_file()
    check(uri, "phantom", ["a", "b"])


def test_a_killed_workflow_is_outlived_by_seconds_and_its_successor_waits(tmp_path: Path) -> None:
    outbox = tmp_path / ".edgeward" / "outbox"
    world = World(tmp_path, "phantom")
    entry = world.prepare()
    away = "http://127.0.0.1:9"  # nothing gets through, so it has something to wait for
    sweeps = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) for _ in range(2)]
    first = deliverer(tmp_path, away, "--follow", str(sweeps[0].pid))
    until(lambda: not _try_deliverer(outbox), "the first to begin")
    second = deliverer(tmp_path, away, "--follow", str(sweeps[1].pid))
    sweeps[0].kill()
    sweeps[0].wait()
    until(lambda: first.poll() is not None, "its end")
    until(lambda: not _try_deliverer(outbox), "the successor to take over")
    assert second.poll() is None
    sweeps[1].kill()
    sweeps[1].wait()
    assert second.wait(120) != 0
    assert pending(outbox) == [entry]


def _try_deliverer(outbox: Path) -> bool:
    with only_deliverer(outbox) as alone:
        return alone


class Server:
    """A real `mlflow server` on a free port of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{self.root}/server.db"),
            *("--artifacts-destination", str(self.root / "artifacts")),
            *("--host", "127.0.0.1", "--port", str(self.port)),
        ]
        quiet = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.root / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=quiet, start_new_session=True
            )

    def up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path, store_uri: str) -> Iterator[Server]:
    """A server that starts on a copy of a store whose tables are already there."""
    init_store(store_uri, "tests")
    shutil.copy(store_uri.removeprefix("sqlite:///"), tmp_path / "server.db")
    one = Server(tmp_path)
    one.start()
    yield one
    one.kill()


@pytest.mark.slow
def test_a_server_killed_in_the_middle(tmp_path: Path, server: Server) -> None:
    world = World(tmp_path, "phantom", "a")
    world.train()
    world.candidate("fp32", "reference")
    deliverer = Deliverer(world.outbox, server.uri, "e", os.getpid(), patience_s=90)
    result: list[int] = []
    thread = threading.Thread(target=lambda: result.append(deliverer.run()))
    until(server.up, "the server")
    thread.start()
    until(lambda: deliverer.count >= 2, "the first deliveries")
    server.kill()
    world.candidate("ptq_int8")  # stages go on and post while it is away
    time.sleep(1.0)
    assert len(pending(world.outbox)) >= 4
    assert thread.is_alive()
    server.start()
    until(server.up, "the server's return")
    deliverer.stop()  # the sweep is over; what waits is delivered now
    thread.join(120)
    assert result == [0]
    assert pending(world.outbox) == []
    check(server.uri, "phantom", ["a"])

    # `mlflow ui` and anybody else can read what was kept, through the server alone
    client = MlflowClient(server.uri)
    version = client.get_model_version_by_alias("phantom.a.ptq_int8", "candidate")
    assert version.source.startswith("mlflow-artifacts:")
    receipt = json.loads((world.at("fp32", "assess") / "mlflow.json").read_text())
    found = {a.path for a in client.list_artifacts(receipt["run_id"])}
    assert {"safety.json", "verdict.json"} <= found


class TestCommandLine:
    def options(self, world: World, uri: str) -> list[str]:
        return ["--outbox", str(world.outbox), "--uri", uri, "--experiment", "tests"]

    def test_a_second_deliverer_leaves_or_waits(self, world: World, store_uri: str) -> None:
        path = world.prepare()
        options = [*self.options(world, store_uri), "--drain-timeout", "0.5"]
        with only_deliverer(world.outbox):
            assert main(options) == 0
            assert main([*options, "--wait"]) == 1  # the other one is stuck
            threading.Timer(0.2, path.rename, [path.with_suffix(".taken")]).start()
            assert main([*options, "--wait"]) == 0
        path.with_suffix(".taken").rename(path)
        assert main(options) == 0
        assert pending(world.outbox) == []

    def test_an_empty_outbox_opens_no_store(self, world: World) -> None:
        assert main(self.options(world, "http://127.0.0.1:9")) == 0

    def test_set_aside_entries_can_be_tried_again(
        self, world: World, store_uri: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = world.prepare()
        (world.outbox / "failed").mkdir()
        path.rename(world.outbox / "failed" / path.name)
        assert main([*self.options(world, store_uri), "--retry-failed"]) == 0
        assert list((world.outbox / "failed").glob("*.json")) == []
        assert (world.folder(world.data, "prepare") / "mlflow.json").is_file()
