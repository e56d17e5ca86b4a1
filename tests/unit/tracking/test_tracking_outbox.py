"""What stages leave in the outbox; nothing here imports MLflow."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import naming
from tracking_world import World, decided, interval

from edgeward.core.errors import UserError
from edgeward.core.io import sha256
from edgeward.statistics.proportions import ABSENT
from edgeward.tracking import live, row_metrics
from edgeward.tracking.address import default_uri, without_credentials
from edgeward.tracking.entry import StageEntry, read_entry
from edgeward.tracking.live import LiveCurve, curves, read_points
from edgeward.tracking.locks import busy, only_deliverer
from edgeward.tracking.outbox import pending, post, quiet
from edgeward.tracking.row_metrics import RowMetrics


def entry(stage: str = "train", **changes: Any) -> StageEntry:
    known: dict[str, Any] = {
        "data": "phantom", "model": "m", "seed": 0, "config": {}, "folder": Path("x"), **changes,
    }  # fmt: skip
    return StageEntry(stage=stage, **known)


@pytest.mark.parametrize(
    ("stage", "extra", "key", "candidate"),
    [
        ("train", {}, "phantom/m/s0/train", None),
        ("prepare", {"model": None, "seed": None}, "phantom/prepare", None),
        ("assess", {"recipe": "fp32"}, "phantom/m/s0/fp32/assess", "phantom/m/s0/fp32"),
        (
            "profile",
            {"recipe": "fp32", "device": "host"},
            "phantom/m/s0/fp32/profile/host",
            "phantom/m/s0/fp32",
        ),
        ("report", {"data": None, "model": None, "sweep": "default"}, "report/default", None),
    ],
)
def test_key_names_stage_and_candidate(
    stage: str, extra: dict[str, object], key: str, candidate: str | None
) -> None:
    assert entry(stage, **extra).key == key
    assert entry(stage, **extra).candidate == candidate


def test_entries_that_cannot_be_placed_are_refused() -> None:
    with pytest.raises(UserError, match=naming("stage", "'tain'", "train")):
        entry("tain")
    with pytest.raises(UserError, match=naming("'profile'", "recipe", "device")):
        entry("profile")
    with pytest.raises(UserError, match=naming("status", "'OK'", "FINISHED")):
        entry(status="OK")


def test_an_entry_survives_the_file(world: World) -> None:
    path = world.assess_after_export("ptq_int8")
    back = read_entry(path)
    assert back.key == f"{world.data}/small/s0/ptq_int8/assess"
    assert back.folder == world.at("ptq_int8", "assess")
    assert back.config == {"assess": {"lr": 1e-3, "milestones": [3, 5], "name": "x"}}
    assert back.metrics == {"rare_recall": 0.6, "auc_macro": 0.8}
    assert world.at("ptq_int8", "assess") / "verdict.json" in back.artifacts
    assert back.row.metrics["rare_recall"] == 0.6
    assert back.row.metrics["verdict_code"] == 1.0
    model = world.at("ptq_int8", "export") / "model.onnx"
    assert back.row.model is not None
    assert back.row.model.sha256 == sha256(model)
    assert (back.folder / back.row.model.path).resolve() == model


def test_entries_point_to_results_from_wherever_the_folder_is_moved(world: World) -> None:
    world.prepare()
    moved = world.root.parent / "moved"
    shutil.move(world.root, moved)
    [path] = pending(moved / ".edgeward" / "outbox")
    assert read_entry(path).folder == moved / "results" / world.data / "prepare"
    assert all(p.is_file() for p in read_entry(path).artifacts)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 2, "key": "a"}'])
def test_what_is_no_entry_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match=naming("x.json")):
        read_entry(path)


def test_posting_is_ordered_even_if_the_clock_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted = [post(tmp_path, entry(folder=tmp_path))]
    monkeypatch.setattr(live.time, "time_ns", lambda: 5)
    posted += [post(tmp_path, entry(folder=tmp_path)) for _ in range(12)]
    assert pending(tmp_path) == posted


def test_threads_that_post_at_once_get_different_places(tmp_path: Path) -> None:
    """Each opens the lock file anew, as processes do."""
    order: list[tuple[int, Path]] = []

    def work(number: int) -> None:
        for _ in range(20):
            order.append((number, post(tmp_path, entry(folder=tmp_path))))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sequences = [read_entry(path).sequence for path in pending(tmp_path)]
    assert len(set(sequences)) == 80
    assert sequences == sorted(sequences)
    for n in range(4):
        own = [path for number, path in order if number == n]
        assert own == sorted(own)


def test_outbox_imports_no_mlflow() -> None:
    code = "import sys, edgeward.tracking.outbox; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"mlflow", "numpy", "pandas", "torch", "onnx"}


class TestRow:
    def test_first_device_of_the_sweep_gives_the_headline(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(row_metrics.HEADLINE, "board")
        world.profile("fp32", p50=3.0)
        world.profile("fp32", p50=40.0, device="board")
        host, board = (read_entry(path).row for path in pending(world.outbox))
        assert board.metrics["latency_p50_ms"] == 40.0
        assert board.tags["headline_device"] == "board"
        assert host.metrics["host/latency_p50_ms"] == 3.0
        assert "latency_p50_ms" not in host.metrics
        assert "headline_device" not in host.tags

    def test_row_of_another_device_does_not_replace_the_host(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv(row_metrics.HEADLINE, raising=False)
        world.profile("fp32", p50=3.0)
        world.profile("fp32", p50=40.0, device="board")
        host, board = (read_entry(path).row for path in pending(world.outbox))
        assert host.metrics["latency_p50_ms"] == 3.0
        assert board.metrics["board/latency_p50_ms"] == 40.0
        assert "latency_p50_ms" not in board.metrics

    def test_a_model_that_the_engine_refuses_is_tagged_so(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv(row_metrics.HEADLINE, raising=False)
        world.profile("fp32", device="board", refused="no kernel for Scan")
        [path] = pending(world.outbox)
        assert read_entry(path).row == RowMetrics(tags={"board/profile_verdict": "REFUSED"})

    def test_outputs_that_cannot_be_read_are_a_problem_not_a_failure(self, world: World) -> None:
        world.assess("fp32")  # there is no export/model.onnx
        [path] = pending(world.outbox)
        found = read_entry(path).row
        assert found.metrics == {}
        assert "FileNotFoundError" in str(found.problem)

    def test_differences_without_an_interval_are_left_out(self, world: World) -> None:
        world.export("fp32")
        world.assess("fp32", verdict="inconclusive")
        at = world.at("fp32", "assess")
        differences = {"rare_recall": ABSENT, "ece": interval(0.1)}
        decided("inconclusive", differences).write(at / "verdict.json")
        found = row_metrics.gather("assess", at, None)
        assert found.metrics["verdict_code"] == 0.0
        assert "rare_recall_difference" not in found.metrics
        assert found.model is not None
        assert set(found.model.evidence) == {"verdict", "ece_difference"}

    def test_reference_has_no_code(self, world: World) -> None:
        world.export("fp32")
        world.assess("fp32", verdict="reference")
        found = row_metrics.gather("assess", world.at("fp32", "assess"), None)
        assert "verdict_code" not in found.metrics


class TestLiveCurve:
    def steps(self, outbox: Path) -> list[list[int]]:
        return [[p.step for p in read_points(c.path, 0)[0]] for c in curves(outbox)]

    def test_resumed_training_continues_its_curve(self, tmp_path: Path) -> None:
        first = LiveCurve(tmp_path, entry())
        for step in range(4):
            first.log(step, {"loss": 1.0 / (step + 1)})
        again = LiveCurve(tmp_path, entry())  # went on from the checkpoint of epoch 1
        for step in range(2, 6):
            again.log(step, {"loss": 1.0 / (step + 1)})
        assert self.steps(tmp_path) == [[0, 1, 2, 3, 4, 5]]

    def test_a_line_cut_short_by_a_kill_is_written_again(self, tmp_path: Path) -> None:
        LiveCurve(tmp_path, entry()).log(0, {"loss": 1.0})
        [header] = curves(tmp_path)
        with header.path.open("a") as handle:
            handle.write('{"step": 1, "time": 17')
        assert self.steps(tmp_path) == [[0]]
        LiveCurve(tmp_path, entry()).log(1, {"loss": 0.5})
        assert self.steps(tmp_path) == [[0, 1]]

    def test_beginning_again_or_otherwise_is_a_new_curve(self, tmp_path: Path) -> None:
        for step in range(3):
            LiveCurve(tmp_path, entry()).log(step, {"loss": 1.0})
        LiveCurve(tmp_path, entry()).log(0, {"loss": 2.0})
        LiveCurve(tmp_path, entry(config={"lr": 2})).log(1, {"loss": 2.0})
        LiveCurve(tmp_path, entry(seed=1)).log(1, {"loss": 2.0})
        assert self.steps(tmp_path) == [[0, 1, 2], [0], [1], [1]]

    def test_the_entry_names_its_own_curve(self, tmp_path: Path) -> None:
        LiveCurve(tmp_path, entry(config={"lr": 1})).log(0, {"loss": 1.0})
        LiveCurve(tmp_path, entry(seed=1)).log(0, {"loss": 1.0})
        of = {c.key: c.curve for c in curves(tmp_path)}
        same = post(tmp_path, entry(config={"lr": 1}, folder=tmp_path))
        other = post(tmp_path, entry(config={"lr": 2}, folder=tmp_path))
        assert read_entry(same).curve == of["phantom/m/s0/train"]
        assert read_entry(other).curve is None

    def test_a_full_disk_does_not_stop_training(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "live").write_text("in the way")
        LiveCurve(tmp_path, entry()).log(0, {"loss": 1.0})
        assert "step 0 is missing" in caplog.text

    @settings(max_examples=30, deadline=None)
    @given(cuts=st.lists(st.integers(0, 400), max_size=6))
    def test_reading_in_pieces_gives_each_point_once(self, cuts: list[int]) -> None:
        """However far the writer has got at each look, the reader loses and doubles nothing."""
        lines = [json.dumps({"curve": "c"})]
        lines += [json.dumps({"step": i, "time": i, "metrics": {"a": i}}) for i in range(8)]
        whole = ("\n".join(lines) + "\n").encode()
        path = Path(self.folder) / "curve.jsonl"
        seen, offset = [], 0
        for end in [*sorted(cuts), len(whole)]:
            path.write_bytes(whole[:end])
            points, offset = read_points(path, offset)
            seen += [p.step for p in points]
        assert seen == list(range(8))

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path


def test_quiet_waits_for_the_delivery_and_holds_off_the_next(tmp_path: Path) -> None:
    events: list[str] = []
    with busy(tmp_path) as allowed:
        assert allowed

        def measure() -> None:
            with quiet(tmp_path):
                events.append("measured")

        thread = threading.Thread(target=measure)
        thread.start()
        time.sleep(0.1)
        assert events == []
        events.append("delivered")
    thread.join()
    assert events == ["delivered", "measured"]
    with quiet(tmp_path), busy(tmp_path) as allowed:
        assert not allowed
    with busy(tmp_path) as allowed:
        assert allowed


def test_a_curve_that_is_none_is_renamed_and_the_others_stay(tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    for number, header in enumerate(
        ('{"curve": 1}', "[]", '{"identity": {"stage": "evil"}}', '{"identity": 5}')
    ):
        (live / f"{number}.jsonl").write_text(f"{header}\n")
    assert curves(tmp_path) == []
    assert {path.suffix for path in live.iterdir()} == {".unreadable"}


def test_one_deliverer_per_outbox(tmp_path: Path) -> None:
    with only_deliverer(tmp_path) as first, only_deliverer(tmp_path) as second:
        assert (first, second) == (True, False)
    with only_deliverer(tmp_path) as third:
        assert third


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("http://me:pa@ss@host:5000/x", "http://host:5000/x"),
        ("to https://token@host/a failed", "to https://host/a failed"),
        ("sqlite:////data/a@b/mlflow.db", "sqlite:////data/a@b/mlflow.db"),
        ("http://host/x?mail=a@b", "http://host/x?mail=a@b"),
        ("http://host:5000/x?mail=a@b", "http://host:5000/x?mail=a@b"),
        ("postgresql://me:pa/s?s@host:5432/db", "postgresql://host:5432/db"),
        ("https://host/x?token=abc&page=2", "https://host/x?token=...&page=2"),
        ("https://host/x?a=1&api_key=abc", "https://host/x?a=1&api_key=..."),
    ],
)
def test_credentials_are_kept_out_of_messages(text: str, clean: str) -> None:
    assert without_credentials(text) == clean


def test_the_store_is_the_users_or_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host")
    assert default_uri() == "http://host"
