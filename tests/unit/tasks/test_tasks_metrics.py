"""Every metric of every task passes the same tester; and a task in a folder of its own needs nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from findings import caller, drawn
from grades import drawn as graded
from grades import model as grades
from label_tables import make, maps, part
from metric_tester import Build, check_metrics
from safety_cases import classifier, lesions, of_labels

from edgeward.tasks.assessment import Arm
from edgeward.tasks.base import task_names
from edgeward.tasks.segmentation.assess import Arm as Segments

TESTS = Path(__file__).resolve().parents[2]
SOURCE = TESTS.parent / "src" / "edgeward"


def multiclass() -> tuple[Build, int]:
    logits, labels, groups = lesions([60, 25, 12])

    def build(rows: np.ndarray) -> Arm:
        of, names, val = groups[rows], ["a", "b", "c"], (logits, labels)
        return classifier(logits[rows], labels[rows], of, names, ["c"], 1.3, val)

    return build, len(labels)


def segmentation() -> tuple[Build, int]:
    tables, cases = make()

    def build(rows: np.ndarray) -> Arm:
        some, of = part(tables, cases, rows)
        return Segments(of, of_labels(small_lesion=10.0), some, maps(len(rows)))

    return build, len(cases)


def multilabel() -> tuple[Build, int]:
    logits, findings, groups = drawn(unknown=0.05)

    def build(rows: np.ndarray) -> Arm:
        return caller(logits[rows], findings[rows], groups[rows], (logits, findings))

    return build, len(groups)


def ordinal() -> tuple[Build, int]:
    logits, labels, patients = graded()

    def build(rows: np.ndarray) -> Arm:
        return grades(logits[rows], labels[rows], patients[rows], (logits, labels))

    return build, len(labels)


MODELS = {
    "multiclass": multiclass,
    "multilabel": multilabel,
    "ordinal": ordinal,
    "segmentation": segmentation,
}


@pytest.mark.parametrize("task", task_names())
def test_every_metric_passes_the_tester(task: str) -> None:
    check_metrics(*MODELS[task]())


def test_a_task_is_one_folder(tmp_path: Path) -> None:
    """`toy` lies outside of the project, and is assessed and pooled without a change anywhere else."""
    path = [str(TESTS / "plugins"), str(SOURCE.parent), str(TESTS / "helpers")]
    code = f"import sys; sys.path[:0] = {path}; from toy_task_study import main; main({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    verdict = json.loads((tmp_path / "int8-0" / "verdict.json").read_text())
    assert [row["metric"] for row in verdict["endpoints"]] == ["accuracy"]
    assert {"accuracy", "balanced", "recall_rare"} <= set(verdict["differences"])
    pooled = json.loads((tmp_path / "pooled.json").read_text())
    assert set(pooled["rows"][0]["metrics"]) == {
        "accuracy", "balanced", "recall_common", "recall_middling", "recall_rare",
    }  # fmt: skip


OLDER_FILES = {"records/base.py", "records/recipe.py"}  # what older files call it
DEFAULT = {"data/config.py"}  # the task that a data set is for if it says nothing


def test_only_tasks_know_which_task_it_is() -> None:
    names = "|".join([*task_names(), "classification"])
    asks = re.compile(rf"[\"'](?:{names})[\"']|tasks\.(?:{names})\b|isinstance\([^)]*LossConfig")
    found = {
        str(file.relative_to(SOURCE))
        for file in [*SOURCE.rglob("*.py"), *SOURCE.rglob("*.j2")]
        if "tasks" not in file.relative_to(SOURCE).parts[:1] and asks.search(file.read_text())
    }
    assert found == OLDER_FILES | DEFAULT
