"""What arrives in MLflow, in a real SQLite store, and that it arrives once whatever happens."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnxruntime
import pytest
import requests
from guides import python
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from refusals import naming
from tracking_world import World, write_onnx

from edgeward.core.errors import UserError
from edgeward.core.io import read_json, sha256
from edgeward.tracking import loop, registry
from edgeward.tracking.experiment import ExperimentStore, study_of
from edgeward.tracking.live import LiveCurve, curves
from edgeward.tracking.locks import quiet
from edgeward.tracking.loop import Deliverer
from edgeward.tracking.outbox import pending
from edgeward.tracking.runs import Delivery
from edgeward.tracking.tidy import keep_days

Deliver = Callable[..., Deliverer]


@pytest.fixture
def client(store_uri: str) -> MlflowClient:
    return MlflowClient(store_uri)


def runs_of(client: MlflowClient, world: World, kind: str = "stage") -> dict[str, Run]:
    """Return the active runs of a world by key; a key with two runs is a failure."""
    experiment = client.get_experiment_by_name("tests")
    found = client.search_runs(
        [experiment.experiment_id],
        f"tags.\"edgeward.data\" = '{world.data}' AND tags.\"edgeward.kind\" = '{kind}'",
        max_results=1000,
    )
    keys = [run.data.tags["edgeward.key"] for run in found]
    assert len(keys) == len(set(keys)), sorted(keys)
    return dict(zip(keys, found, strict=True))


def artifacts(client: MlflowClient, run: Run, folder: str | None = None) -> set[str]:
    return {a.path for a in client.list_artifacts(run.info.run_id, folder)}


class TestWhatArrives:
    @pytest.fixture(scope="class")
    def delivered(self, tmp_path_factory: pytest.TempPathFactory, store_uri: str) -> World:
        world = World(tmp_path_factory.mktemp("world"), data="whole")
        world.prepare()
        world.train()
        world.candidate("fp32", "reference", rare_recall=0.7)
        world.candidate("ptq_int8", "inconclusive", rare_recall=0.5)
        world.report(sweep=world.data)
        assert Deliverer(world.outbox, store_uri, "tests", None, 0).run() == 0
        return world

    def test_rows_stages_and_receipts(self, delivered: World, client: MlflowClient) -> None:
        world = delivered
        stages, rows = runs_of(client, world), runs_of(client, world, "candidate")
        base = f"{world.data}/small/s0"
        candidates = {f"{base}/fp32", f"{base}/ptq_int8"}
        assert set(rows) == candidates
        ends = ("compress", "export", "profile/host", "assess")
        children = {f"{c}/{end}" for c in candidates for end in ends}
        assert set(stages) == {f"{world.data}/prepare", f"{base}/train", *children}

        row = rows[f"{base}/ptq_int8"]
        assert row.info.run_name == "small ptq_int8 s0"
        assert row.info.status == "FINISHED"
        size = (world.at("ptq_int8", "export") / "model.onnx").stat().st_size
        assert row.data.metrics == pytest.approx(
            {
                "latency_p50_ms": 3.0,
                "latency_p90_ms": 3.6,
                "peak_memory_mb": 12.0,
                "file_mb": size / 1e6,
                **dict.fromkeys(("auc_macro", "accuracy", "balanced_accuracy", "nll", "ece"), 0.8),
                "rare_recall": 0.5,
                "rare_recall_difference": -0.01,
                "verdict_code": 0.0,
            }
        )
        assert row.data.tags["edgeward.verdict"] == "inconclusive"
        assert row.data.tags["edgeward.train_run"] == stages[f"{base}/train"].info.run_id
        assert row.data.tags["edgeward.prepare_run"] == stages[f"{world.data}/prepare"].info.run_id

        child = stages[f"{base}/ptq_int8/assess"]
        assert child.data.tags["mlflow.parentRunId"] == row.info.run_id
        assert list(child.data.params) == sorted(child.data.params)
        assert child.data.params["assess.milestones"] == "[3, 5]"
        assert child.data.metrics == {"rare_recall": 0.5, "auc_macro": 0.8}
        assert child.info.end_time - child.info.start_time == pytest.approx(10_000, abs=2)
        assert artifacts(client, child) == {
            "config.yaml",
            "metrics.json",
            "safety.json",
            "verdict.json",
        }
        [used] = child.inputs.dataset_inputs
        assert (used.dataset.name, used.tags[0].value) == (world.data, "assess")
        assert ("ab" * 32).startswith(used.dataset.digest)

        receipt = read_json(world.at("ptq_int8", "profile") / "host.mlflow.json")
        assert receipt["run_id"] == stages[f"{base}/ptq_int8/profile/host"].info.run_id
        assert receipt["parent_run_id"] == row.info.run_id
        assert "parent_run_id" in read_json(world.folder(world.data, "prepare") / "mlflow.json")

    def test_rows_can_be_sorted_by_rare_recall(
        self, delivered: World, client: MlflowClient
    ) -> None:
        experiment = client.get_experiment_by_name("tests")
        found = client.search_runs(
            [experiment.experiment_id],
            f"tags.\"edgeward.kind\" = 'candidate' AND tags.\"edgeward.data\" = '{delivered.data}'",
            order_by=["metrics.rare_recall DESC"],
        )
        assert [run.data.tags["edgeward.recipe"] for run in found] == ["fp32", "ptq_int8"]

    def test_report_keeps_its_page_and_folders(
        self, delivered: World, client: MlflowClient
    ) -> None:
        receipt = read_json(delivered.folder("report", delivered.data) / "mlflow.json")
        run = client.get_run(receipt["run_id"])
        assert run.info.run_name == f"report {delivered.data}"
        assert {"index.html", "figures"} <= artifacts(client, run)
        assert artifacts(client, run, "figures") == {"figures/a.svg"}

    def test_running_again_replaces_and_never_doubles(
        self, delivered: World, client: MlflowClient, deliver: Deliver
    ) -> None:
        before, rows = runs_of(client, delivered), runs_of(client, delivered, "candidate")
        delivered.profile("ptq_int8", p50=9.0)
        delivered.assess("ptq_int8", "inconclusive", rare_recall=0.55)
        deliver(delivered)
        after, rows_after = runs_of(client, delivered), runs_of(client, delivered, "candidate")
        assert set(after) == set(before)
        changed = {key for key in after if after[key].info.run_id != before[key].info.run_id}
        base = f"{delivered.data}/small/s0/ptq_int8"
        assert changed == {f"{base}/assess", f"{base}/profile/host"}
        assert (
            client.get_run(before[f"{base}/assess"].info.run_id).info.lifecycle_stage == "deleted"
        )
        assert {r.info.run_id for r in rows_after.values()} == {
            r.info.run_id for r in rows.values()
        }
        row = rows_after[base].data.metrics
        assert (row["latency_p50_ms"], row["rare_recall"]) == (9.0, 0.55)


class TestRegistry:
    def test_pass_is_registered_as_assessed_and_withdrawn_when_it_fails(
        self, world: World, client: MlflowClient, deliver: Deliver, store_uri: str
    ) -> None:
        world.candidate("qat_int8", "pass")
        world.candidate("fp32", "reference")
        deliver(world)
        name = f"{world.data}.small.qat_int8"
        version = client.get_model_version_by_alias(name, registry.ALIAS)
        file = world.at("qat_int8", "export") / "model.onnx"
        assert version.tags["edgeward.onnx_sha256"] == sha256(file)
        assert version.tags["edgeward.rare_recall_difference"] == "-0.0100 [-0.0300, +0.0100]"
        assert version.tags["edgeward.latency_p50_ms"] == "3"
        row = runs_of(client, world, "candidate")[f"{world.data}/small/s0/qat_int8"]
        assert version.run_id == row.info.run_id
        with pytest.raises(MlflowException):
            client.get_registered_model(f"{world.data}.small.fp32")

        image = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        [expected] = session.run(None, {"image": image})
        mlflow.set_tracking_uri(store_uri)
        uri = f"models:/{name}@{registry.ALIAS}"
        got = mlflow.pyfunc.load_model(uri).predict({"image": image})["logits"]
        np.testing.assert_array_equal(got, expected)
        assert mlflow.onnx.load_model(uri).graph.name == "small"
        local = Path(mlflow.artifacts.download_artifacts(uri)) / "model.onnx"
        assert sha256(local) == sha256(file)

        world.profile("qat_int8", p50=8.0)
        world.export("qat_int8", weights=8)  # the same file once more: no second version
        world.assess("qat_int8", "pass")
        deliver(world)
        assert len(client.search_model_versions(f"name='{name}'")) == 1
        version = client.get_model_version_by_alias(name, registry.ALIAS)
        assert version.tags["edgeward.latency_p50_ms"] == "8"
        assert mlflow.onnx.load_model(uri).graph.name == "small"

        world.assess("qat_int8", "fail")
        deliver(world)
        assert client.get_registered_model(name).aliases == {}
        version = client.get_model_version(name, version.version)
        assert version.tags["edgeward.withdrawn"] == "a later assessment ended in fail"
        assert version.tags["edgeward.verdict"] == "fail"

        world.assess("qat_int8", "pass")
        deliver(world)
        version = client.get_model_version_by_alias(name, registry.ALIAS)
        assert "edgeward.withdrawn" not in version.tags

    def test_the_guide_finds_the_row_and_the_model(
        self, world: World, deliver: Deliver, store_uri: str
    ) -> None:
        world.candidate("ptq_int8", "pass")
        deliver(world)
        mlflow.set_tracking_uri(store_uri)
        query = python("mlflow.search_runs(").replace('"edgeward"', '"tests"')
        load = python("load_model(").replace("phantom.mobileone_s0", f"{world.data}.small")
        found: dict[str, Any] = {"mlflow": mlflow}
        exec(f"rows = {query.replace('ham10000', world.data)}model = {load}", found)
        rows = found["rows"]
        assert list(rows["tags.edgeward.key"]) == [f"{world.data}/small/s0/ptq_int8"]
        assert "metrics.rare_recall" in rows
        assert found["model"].graph.name == "small"

    def test_another_seed_that_fails_does_not_withdraw_this_one(
        self, world: World, client: MlflowClient, deliver: Deliver
    ) -> None:
        world.candidate("qat_int8", "pass")
        World(world.root, world.data, seed=1).candidate("qat_int8", "fail")
        deliver(world)
        version = client.get_model_version_by_alias(f"{world.data}.small.qat_int8", registry.ALIAS)
        assert version.tags["edgeward.seed"] == "0"

    def test_a_file_that_changed_since_is_not_registered(
        self, world: World, client: MlflowClient, deliver: Deliver
    ) -> None:
        world.candidate("qat_int8", "pass")
        write_onnx(world.at("qat_int8", "export") / "model.onnx", seed=99)
        deliver(world)
        with pytest.raises(MlflowException):
            client.get_registered_model(f"{world.data}.small.qat_int8")
        run = runs_of(client, world)[f"{world.data}/small/s0/qat_int8/assess"]
        assert "replaced since" in run.data.tags["edgeward.not_registered"]


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class Flaky:
    """A client whose n-th writing request is done but ends in `error`: no answer arrives."""

    def __init__(self, client: MlflowClient, n: int, error: BaseException, only: str = "") -> None:
        self._client, self._left, self._error, self._only = client, n, error, only

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            reads = name.startswith(("get_", "search_", "list_", "log_artifact"))
            if name == self._only or not (self._only or reads):
                self._left -= 1
                if self._left == 0:
                    raise self._error
            return answer

        return call


def flaky(world: World, uri: str, *args: Any) -> Deliverer:
    deliverer = Deliverer(world.outbox, uri, "tests", None, patience_s=60)
    deliverer.open()
    assert deliverer._delivery is not None
    store = deliverer._delivery.store
    broken = ExperimentStore(Flaky(store.client, *args), store.experiment_id, store.study)
    deliverer._delivery = Delivery(broken, uri, world.outbox)
    return deliverer


class TestExactlyOnce:
    def test_killed_after_any_writing_request(
        self, world: World, client: MlflowClient, deliver: Deliver, store_uri: str
    ) -> None:
        """An assess entry that supersedes one and registers a version, killed at each step of it."""
        world.train()
        world.candidate("qat_int8", "pass")
        deliver(world)
        key = f"{world.data}/small/s0/qat_int8"
        killed, n = True, 0
        while killed:
            n += 1
            write_onnx(world.at("qat_int8", "export") / "model.onnx", seed=1000 + n)
            entry = world.assess("qat_int8", "pass", rare_recall=0.5 + n / 1000)
            try:
                flaky(world, store_uri, n, Killed()).run()
                killed = False
            except Killed:
                assert pending(world.outbox) == [entry]
                deliver(world)
            run = runs_of(client, world)[f"{key}/assess"]
            assert run.info.status == "FINISHED"
            assert run.data.tags["edgeward.entry_id"] in entry.name
            assert len(client.get_metric_history(run.info.run_id, "rare_recall")) == 1
            row = runs_of(client, world, "candidate")[key]
            assert row.data.metrics["rare_recall"] == 0.5 + n / 1000
            assert len(client.get_metric_history(row.info.run_id, "rare_recall")) == n + 1
            versions = client.search_model_versions(f"name='{world.data}.small.qat_int8'")
            assert len(versions) == n + 1
            latest = client.get_model_version_by_alias(versions[0].name, registry.ALIAS)
            digest = sha256(world.at("qat_int8", "export") / "model.onnx")
            assert latest.tags["edgeward.onnx_sha256"] == digest
        assert n > 9

    @pytest.mark.parametrize("request_name", ["create_run", "create_model_version", "log_batch"])
    def test_answer_lost(
        self, request_name: str, world: World, client: MlflowClient, store_uri: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """The store did what it was asked, but the connection broke before it could say so."""
        monkeypatch.setattr(Deliverer, "_answers", lambda self: False)
        lost = requests.exceptions.ConnectionError("connection reset")
        world.candidate("qat_int8", "pass")
        flaky(world, store_uri, 1, lost, request_name).run()
        assert pending(world.outbox) == []
        assert len(runs_of(client, world)) == 4
        assert len(runs_of(client, world, "candidate")) == 1
        name = f"{world.data}.small.qat_int8"
        assert len(client.search_model_versions(f"name='{name}'")) == 1

    def test_an_old_entry_put_back_changes_nothing(
        self, world: World, client: MlflowClient, deliver: Deliver
    ) -> None:
        old = world.assess_after_export("fp32")
        text = old.read_text()
        deliver(world)
        world.assess("fp32", rare_recall=0.9)
        deliver(world)
        old.write_text(text)
        deliver(world)
        key = f"{world.data}/small/s0/fp32"
        assert runs_of(client, world)[f"{key}/assess"].data.metrics["rare_recall"] == 0.9
        row = runs_of(client, world, "candidate")[key]
        assert row.data.metrics["rare_recall"] == 0.9


class TestTrouble:
    def test_a_bad_entry_is_set_aside_and_the_others_pass(
        self, world: World, client: MlflowClient, deliver: Deliver
    ) -> None:
        world.prepare()
        bad = world.train(config={"a": {f"k{i}": "x" for i in range(3)}})
        bad.write_text(bad.read_text().replace('"train"', '"tain"'))
        world.compress("fp32")
        deliver(world)
        assert len(runs_of(client, world)) == 2
        failed = world.outbox / "failed"
        assert "'tain' is none of" in (failed / f"{bad.name}.reason.txt").read_text()
        fixed = (failed / bad.name).read_text().replace('"tain"', '"train"')
        (world.outbox / bad.name).write_text(fixed)
        deliver(world)
        assert f"{world.data}/small/s0/train" in runs_of(client, world)

    def test_an_entry_that_keeps_failing_while_the_store_answers_is_set_aside(
        self, world: World, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.prepare()
        monkeypatch.setattr(loop, "LONGEST_PAUSE_S", 0.01)
        tries = []

        def broken(self: Delivery, entry: object) -> None:
            tries.append(entry)
            raise RuntimeError("a bug")

        monkeypatch.setattr(Delivery, "stage", broken)
        deliver(world, patience_s=10)
        assert len(tries) == loop.ATTEMPTS
        [reason] = (world.outbox / "failed").glob("*.reason.txt")
        assert reason.read_text() == "RuntimeError: a bug\n"

    def test_a_store_that_is_away_costs_nothing_but_time(
        self, world: World, client: MlflowClient, deliver: Deliver, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.prepare()
        world.train()
        away = Deliverer(world.outbox, "http://user:secret@127.0.0.1:9", "tests", None, 1.5)
        assert away.run() == 1
        assert len(pending(world.outbox)) == 2
        assert "2 tracking entries wait" in caplog.text
        assert "tracking_sync" in caplog.text
        assert "secret" not in caplog.text
        deliver(world)
        assert len(runs_of(client, world)) == 2

    def test_artifacts_that_are_gone_are_named(
        self, world: World, client: MlflowClient, deliver: Deliver
    ) -> None:
        world.prepare()
        (world.folder(world.data, "prepare") / "card.json").unlink()
        deliver(world)
        run = runs_of(client, world)[f"{world.data}/prepare"]
        assert run.data.tags["edgeward.missing_artifacts"] == "card.json"
        assert artifacts(client, run) == {"config.yaml", "metrics.json"}

    def test_a_failed_stage_is_a_failed_run_and_its_row_says_why_until_it_is_mended(
        self, world: World, client: MlflowClient, deliver: Deliver
    ) -> None:
        def fail(stage: str, **of: Any) -> None:
            at, tags = world.at("fp32", stage), {"edgeward.failure": "put the file there"}
            world.post(world.entry(stage, at, recipe="fp32", status="FAILED", tags=tags, **of))

        def row() -> Run:
            return runs_of(client, world, "candidate")[key]

        key = f"{world.data}/small/s0/fp32"
        world.export("fp32")
        fail("assess")
        deliver(world)
        assert runs_of(client, world)[f"{key}/assess"].info.status == "FAILED"
        assert set(row().data.metrics) == {"file_mb"}
        assert row().info.status == "FAILED"
        assert row().data.tags["edgeward.verdict"] == "failed"
        assert row().data.tags["edgeward.verdict_reasons"] == "put the file there"
        assert row().data.tags["edgeward.failed_stage"] == "assess"

        world.assess("fp32", "reference")
        deliver(world)
        assert row().info.status == "FINISHED"
        assert row().data.tags["edgeward.verdict"] == "reference"
        assert "edgeward.failure" not in row().data.tags

        fail("profile", device="host")  # a device that is gone takes back no verdict
        world.compress("fp32")
        deliver(world)
        assert row().info.status == "FAILED"
        assert row().data.tags["edgeward.verdict"] == "reference"
        assert row().data.tags["edgeward.failed_stage"] == "profile host"

    def test_an_output_that_vanishes_while_it_is_copied_is_named(
        self,
        world: World,
        client: MlflowClient,
        deliver: Deliver,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        world.prepare()
        copy = Delivery._copy

        def late(self: Delivery, entry: Any, run_id: str, path: Path) -> None:
            if path.name == "card.json":
                path.unlink()
            copy(self, entry, run_id, path)

        monkeypatch.setattr(Delivery, "_copy", late)
        deliver(world)
        run = runs_of(client, world)[f"{world.data}/prepare"]
        assert run.data.tags["edgeward.missing_artifacts"] == "card.json"
        assert pending(world.outbox) == []

    def test_a_full_disk_is_no_fault_of_an_entry(
        self, world: World, client: MlflowClient, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.prepare()
        monkeypatch.setattr(loop, "LONGEST_PAUSE_S", 0.01)
        copy, tries = Delivery._copy, []

        def full(self: Delivery, entry: Any, run_id: str, path: Path) -> None:
            tries.append(path)
            if len(tries) <= 2 * loop.ATTEMPTS:
                raise MlflowException("cannot write") from OSError(28, "No space left on device")
            copy(self, entry, run_id, path)

        monkeypatch.setattr(Delivery, "_copy", full)
        deliver(world, patience_s=60)
        assert not (world.outbox / "failed").exists()
        assert f"{world.data}/prepare" in runs_of(client, world)

    def test_runs_that_were_replaced_are_kept_for_a_while(
        self,
        world: World,
        client: MlflowClient,
        deliver: Deliver,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def there() -> list[Run]:
            experiment = client.get_experiment_by_name("tests").experiment_id
            of = f"tags.\"edgeward.data\" = '{world.data}'"
            return list(client.search_runs([experiment], of, run_view_type=ViewType.ALL))

        for _ in range(2):
            world.prepare()
            deliver(world)
        replaced, current = sorted(there(), key=lambda run: run.info.lifecycle_stage, reverse=True)
        assert (replaced.info.lifecycle_stage, current.info.lifecycle_stage) == (
            "deleted",
            "active",
        )
        monkeypatch.setenv("EDGEWARD_KEEP_SUPERSEDED_DAYS", "0")
        world.train()
        deliver(world)
        assert replaced.info.run_id not in {run.info.run_id for run in there()}
        kept = artifacts(client, client.get_run(current.info.run_id))
        assert "card.json" in kept
        files = Path(replaced.info.artifact_uri.removeprefix("file://"))
        assert not files.exists()
        monkeypatch.setenv("EDGEWARD_KEEP_SUPERSEDED_DAYS", "soon")
        with pytest.raises(UserError, match=naming("EDGEWARD_KEEP_SUPERSEDED_DAYS", "soon")):
            keep_days()

    def test_two_folders_on_one_server_keep_their_runs_apart(
        self, tmp_path: Path, world: World, client: MlflowClient, deliver: Deliver
    ) -> None:
        other = World(tmp_path / "other", data=world.data)
        for one in (world, other, world):
            one.candidate("fp32", "reference")
            one.candidate("ptq_int8")
            deliver(one)
        experiment = client.get_experiment_by_name("tests")
        of = f"tags.\"edgeward.data\" = '{world.data}'"
        found = client.search_runs([experiment.experiment_id], of, max_results=1000)
        keys = [(r.data.tags["edgeward.study"], r.data.tags["edgeward.key"]) for r in found]
        assert len(keys) == len(set(keys)) == 2 * 10
        versions = client.search_model_versions(f"name='{world.data}.small.ptq_int8'")
        assert len({v.tags["edgeward.study"] for v in versions}) == len(versions) == 2

        moved = other.root.rename(tmp_path / "moved")
        study = study_of(moved / ".edgeward/outbox")
        assert study in {study for study, _ in keys}
        shutil.copytree(moved, tmp_path / "copied")
        assert study_of(tmp_path / "copied/.edgeward/outbox") != study

    def test_nothing_is_delivered_while_a_stage_measures(
        self, world: World, client: MlflowClient, deliver: Deliver
    ) -> None:
        world.prepare()
        with quiet(world.outbox):
            deliver(world, patience_s=0.5, expect=1)
        assert runs_of(client, world) == {}
        deliver(world)
        assert len(runs_of(client, world)) == 1

    def test_a_deleted_experiment_is_explained(
        self, world: World, client: MlflowClient, store_uri: str
    ) -> None:
        client.delete_experiment(client.create_experiment(world.data))
        world.prepare()
        with pytest.raises(
            UserError, match=naming(f"'{world.data}'", store_uri, "mlflow experiments restore")
        ):
            Deliverer(world.outbox, store_uri, world.data, None, 0).run()
        assert len(pending(world.outbox)) == 1


class TestLive:
    def live(self, world: World, steps: range) -> None:
        folder = world.folder(world.data, "small", "s0", "train")
        curve = LiveCurve(world.outbox, world.entry("train", folder))
        for step in steps:
            curve.log(step, {"val_auc": step / 10})

    def history(self, client: MlflowClient, run: Run) -> list[tuple[int, float]]:
        points = client.get_metric_history(run.info.run_id, "val_auc")
        return sorted((p.step, p.value) for p in points)

    def test_curve_appears_continues_and_ends_in_one_run(
        self, world: World, client: MlflowClient, deliver: Deliver
    ) -> None:
        key = f"{world.data}/small/s0/train"
        self.live(world, range(3))
        deliver(world)  # the workflow was killed here
        running = runs_of(client, world)[key]
        assert running.info.status == "KILLED"
        assert self.history(client, running) == [(0, 0.0), (1, 0.1), (2, 0.2)]
        self.live(world, range(2, 5))
        deliver(world)
        self.live(world, range(4, 6))
        world.train()
        deliver(world)
        done = runs_of(client, world)[key]
        assert done.info.run_id == running.info.run_id
        assert done.info.status == "FINISHED"
        assert self.history(client, done) == [(i, i / 10) for i in range(6)]
        assert client.get_metric_history(done.info.run_id, "wall_s")[0].step == 5
        assert curves(world.outbox) == []

    def test_training_anew_replaces_the_curve(
        self, world: World, client: MlflowClient, deliver: Deliver
    ) -> None:
        self.live(world, range(5))
        deliver(world)
        self.live(world, range(3))
        world.train()
        deliver(world)
        run = runs_of(client, world)[f"{world.data}/small/s0/train"]
        assert [step for step, _ in self.history(client, run)] == [0, 1, 2]
        assert curves(world.outbox) == []

    def test_a_curve_that_outlived_its_entry_is_removed(
        self, world: World, client: MlflowClient, deliver: Deliver
    ) -> None:
        """Killed between removing the entry and removing the curve."""
        self.live(world, range(3))
        [header] = curves(world.outbox)
        text = header.path.read_text()
        world.train()
        deliver(world)
        header.path.write_text(text)
        deliver(world)
        assert curves(world.outbox) == []
        assert len(self.history(client, next(iter(runs_of(client, world).values())))) == 3

    def test_without_live_points_the_curve_comes_from_the_history(
        self, world: World, client: MlflowClient, deliver: Deliver
    ) -> None:
        world.train()
        deliver(world)
        run = runs_of(client, world)[f"{world.data}/small/s0/train"]
        assert self.history(client, run) == [(0, 0.7), (1, 0.8), (2, 0.9)]

    def test_the_curve_of_a_candidate_stage_lies_under_its_row(
        self, world: World, client: MlflowClient, deliver: Deliver
    ) -> None:
        entry = world.entry("compress", world.at("qat_int8", "compress"), recipe="qat_int8")
        LiveCurve(world.outbox, entry).log(0, {"val_auc": 0.1})
        deliver(world)
        world.compress("qat_int8")
        deliver(world)
        key = f"{world.data}/small/s0/qat_int8"
        row = runs_of(client, world, "candidate")[key]
        child = runs_of(client, world)[f"{key}/compress"]
        assert child.data.tags["mlflow.parentRunId"] == row.info.run_id
        assert self.history(client, child) == [(0, 0.1)]


def test_deleted_runs_stay_deleted(world: World, client: MlflowClient, deliver: Deliver) -> None:
    """What was replaced is MLflow's soft delete: it can be seen and restored."""
    for _ in range(3):
        world.prepare()
        time.sleep(0.002)
    deliver(world)
    experiment = client.get_experiment_by_name("tests")
    found = client.search_runs(
        [experiment.experiment_id],
        f"tags.\"edgeward.key\" = '{world.data}/prepare'",
        run_view_type=ViewType.ALL,
    )
    assert sorted(r.info.lifecycle_stage for r in found) == ["active", "deleted", "deleted"]
