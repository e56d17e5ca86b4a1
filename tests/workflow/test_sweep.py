"""The whole chain, run by Snakemake on the smoke sweep."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from workspace import Workspace

from edgeward.tracking.outbox import pending

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

SMOKE = ("--config", "sweep=smoke")
AT = "results/phantom_tiny/mobilenetv3_small/s0"
RECIPES = ["fp32", "ptq_int8", "qat_int8"]


def test_every_stage_leaves_its_files(smoke: Workspace) -> None:
    at = smoke.root / AT
    expected = [
        "train/model.pt",
        "train/history.csv",
        *(
            f"{recipe}/{file}"
            for recipe in RECIPES
            for file in (
                "compress/model.pt2",
                "compress/recipe.json",
                "export/model.onnx",
                "export/parity.json",
                "profile/host_quick.json",
                "assess/safety.json",
                "assess/verdict.json",
            )
        ),
    ]
    assert [f for f in expected if not (at / f).is_file()] == []
    assert (smoke.root / "results/report/smoke/index.html").stat().st_size > 10_000
    for stage in ("train", "fp32/compress", "fp32/export", "fp32/assess"):
        metrics = json.loads((at / stage / "metrics.json").read_text())
        assert metrics["startup_s"] > 0
        assert (at / stage / "config.yaml").is_file()


def test_untrained_networks_are_profiled_at_each_size(smoke: Workspace) -> None:
    at = smoke.root / "results/scaling"
    taken = json.loads((at / "dscnn/24/host_quick.json").read_text())
    assert taken["model"]["input_shape"] == [1, 3, 24, 24]
    assert (at / "dscnn/24/export/model.onnx").is_file()
    refused = json.loads((at / "edgenext_xx_small/24/host_quick.json").read_text())
    assert refused["status"] == "refused"
    with (smoke.root / "results/report/smoke/scaling.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(r["model"], r["timing"] == "refused") for r in rows] == [
        ("dscnn", False),
        ("edgenext_xx_small", True),
    ]
    assert (smoke.root / "results/report/smoke/figures/scaling.svg").is_file()


def test_summary_ends_the_run(smoke: Workspace) -> None:
    printed = (smoke.root / "smoke.txt").read_text()
    tail = printed[printed.index("(100%) done") :]
    for recipe in RECIPES:
        assert recipe in tail
    assert "index.html" in tail
    assert "mlflow ui" in tail


def test_logits_are_those_of_the_shipped_file(smoke: Workspace) -> None:
    prepared = smoke.root / "results/phantom_tiny/prepare"
    images = np.load(prepared / "images.npy", mmap_mode="r")
    with (prepared / "split.csv").open() as handle:
        test = [int(r["index"]) for r in csv.DictReader(handle) if r["split"] == "test"][:5]
    x = np.moveaxis(images[test], -1, 1).astype(np.float32)
    for recipe in RECIPES:
        session = onnxruntime.InferenceSession(smoke.root / AT / recipe / "export/model.onnx")
        (logits,) = session.run(["logits"], {"image": x})
        stored = np.load(smoke.root / AT / recipe / "assess/cases/logits.npy")[:5]
        assert np.abs(logits - stored).max() < 1e-3 * max(1, np.abs(stored).max())


def test_second_run_does_nothing(smoke: Workspace) -> None:
    assert smoke.planned(*SMOKE) == {}


def test_mlflow_has_one_parent_a_candidate_and_a_run_a_stage(smoke: Workspace) -> None:
    with closing(sqlite3.connect(f"file:{smoke.root / 'mlflow.db'}?mode=ro", uri=True)) as db:
        tags: dict[str, dict[str, str]] = {}
        for run, key, value in db.execute(
            "select t.run_uuid, t.key, t.value from tags t join runs r on r.run_uuid = t.run_uuid "
            "where r.lifecycle_stage = 'active'"
        ):
            tags.setdefault(run, {})[key] = value
        metrics = db.execute("select run_uuid, key from latest_metrics").fetchall()
    parents = {run for run, t in tags.items() if t.get("edgeward.kind") == "candidate"}
    assert sorted(tags[p]["edgeward.recipe"] for p in parents) == RECIPES
    for parent in parents:
        row = {key for run, key in metrics if run == parent}
        assert {"latency_p50_ms", "rare_recall", "ece", "auc_macro"} <= row
        children = [t for t in tags.values() if t.get("mlflow.parentRunId") == parent]
        assert sorted(c["edgeward.stage"] for c in children) == [
            "assess",
            "compress",
            "export",
            "profile",
        ]
    assert pending(smoke.root / ".edgeward/outbox") == [], "everything posted was delivered"
    ids = json.loads((smoke.root / AT / "fp32/assess/mlflow.json").read_text())
    assert ids["run_id"] in tags


def test_one_target_runs_only_what_it_needs(edited: Workspace) -> None:
    (edited.root / AT / "ptq_int8/export/model.onnx").unlink()
    assert edited.planned(*SMOKE, "--", f"{AT}/ptq_int8/export/model.onnx") == {"export": 1}


def test_forced_rule_runs_again_with_what_follows(smoke: Workspace) -> None:
    assert smoke.planned(*SMOKE, "-R", "assess") == {"assess": 3, "report": 1}


EVERYTHING_AFTER_PREPARE = {
    "train": 1,
    "compress": 3,
    "export": 3,
    "profile": 3,
    "interleave": 1,
    "assess": 3,
    "report": 1,
}


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (
            "config/safety/default.yaml",
            "# Margins",
            "resamples: 1999\n# Margins",
            {"assess": 3, "report": 1},
        ),
        (
            "config/profile/host_quick.yaml",
            "min_count: ",
            "min_count: 1",
            {"profile": 3, "interleave": 1, "scaling_profile": 2, "report": 1},
        ),
        (
            "config/profile/host_quick.yaml",
            "threads: [",
            "threads: [2, ",
            {"ceilings": 1, "profile": 3, "interleave": 1, "scaling_profile": 2, "report": 1},
        ),
        (
            "config/train/smoke.yaml",
            "epochs: 2",
            "epochs: 2\nbatch_size: 16",
            EVERYTHING_AFTER_PREPARE,
        ),
        (
            "config/model/dscnn.yaml",
            "width: 64",
            "width: 32",
            {"scaling": 1, "scaling_profile": 1, "report": 1},
        ),
        (
            "config/sweeps/smoke.yaml",
            "sizes: [24]",
            "sizes: [24, 32]",
            {"scaling": 2, "scaling_profile": 2, "report": 1},
        ),
        ("config/train/default.yaml", "# Training", "batch_size: 16\n# Training", {}),
        ("config/safety/default.yaml", "#", "# another comment\n#", {}),
        ("src/edgeward/reporting/stage.py", '"""', '"""Edited. ', {"report": 1}),
        ("src/edgeward/safety/stage.py", '"""', '"""Edited. ', {"assess": 3, "report": 1}),
        (
            "src/edgeward/tasks/multiclass/losses.py",
            '"""',
            '"""Edited. ',
            EVERYTHING_AFTER_PREPARE | {"scaling": 2, "scaling_profile": 2},
        ),
        ("src/edgeward/tasks/segmentation/report.py", '"""', '"""Edited. ', {"report": 1}),
        ("src/edgeward/tracking/deliver.py", '"""', '"""Edited. ', {}),
    ],
)
def test_an_edit_runs_exactly_what_it_concerns(
    edited: Workspace, file: str, old: str, new: str, expected: dict[str, int]
) -> None:
    edited.edit(file, old, new)
    assert edited.planned(*SMOKE) == expected


def test_a_file_that_is_newer_and_says_the_same_runs_nothing(edited: Workspace) -> None:
    (edited.root / "src/edgeward/training/stage.py").touch()
    assert edited.planned(*SMOKE) == {}


def test_jobs_are_forked_from_a_worker(smoke: Workspace) -> None:
    logs = smoke.root / "logs"
    assert (logs / "worker.log").is_file()
    alone = [p for p in logs.rglob("*.log") if "in a process of its own" in p.read_text()]
    assert alone == []


def test_override_on_the_command_line(smoke: Workspace) -> None:
    jobs = smoke.planned("--config", "sweep=smoke", 'overrides=["safety.seed=12345"]')
    assert jobs == {"assess": 3, "report": 1}


def test_snakemakes_own_report(smoke: Workspace, tmp_path: Path) -> None:
    smoke.snakemake(*SMOKE, "--report", str(tmp_path / "report.zip"))
    assert (tmp_path / "report.zip").stat().st_size > 50_000


def test_lint_is_clean(smoke: Workspace) -> None:
    printed = smoke.snakemake("--lint").stdout
    assert "Congratulations" in printed, printed
