"""Several findings per image, and volumes with one class each, through the whole chain in one sweep."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from workspace import Workspace, copy_project

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

SWEEP = ("--config", "sweep=labels_smoke")
SHAPE = {"phantom_findings_tiny": (3, 32, 32), "phantom3d_lesion_tiny": (1, 24, 32, 32)}
RECIPES = ("fp32", "ptq_int8")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The finished sweep; what it printed is in ``printed.txt``."""
    workspace = copy_project(tmp_path_factory.mktemp("labels") / "project")
    (workspace.root / "printed.txt").write_text(workspace.snakemake(*SWEEP).stdout)
    return workspace


def test_files_take_what_was_prepared_and_say_what_was_judged(done: Workspace) -> None:
    for data, shape in SHAPE.items():
        prepared = done.root / "results" / data / "prepare"
        images = np.load(prepared / "images.npy", mmap_mode="r")
        with (prepared / "split.csv").open() as handle:
            test = [int(row["index"]) for row in csv.DictReader(handle) if row["split"] == "test"]
        for recipe in RECIPES:
            at = done.root / "results" / data / "resnet10_w16/s0" / recipe
            session = ort.InferenceSession(at / "export/model.onnx")
            assert tuple(session.get_inputs()[0].shape[1:]) == shape
            taken = np.ascontiguousarray(np.moveaxis(images[test], -1, 1), np.float32)
            kept = np.load(at / "assess/cases/logits.npy")
            (found,) = session.run(None, {session.get_inputs()[0].name: taken})
            np.testing.assert_allclose(found, kept, rtol=1e-4, atol=1e-4)
            assert json.loads((at / "export/parity.json").read_text())["passed"]
        verdict = json.loads((at / "assess/verdict.json").read_text())
        assert verdict["verdict"] in ("pass", "fail", "inconclusive")


def test_int8_computes_in_integers(done: Workspace) -> None:
    for data in SHAPE:
        at = done.root / "results" / data / "resnet10_w16/s0"
        share = json.loads((at / "ptq_int8/compress/recipe.json").read_text())
        assert share["quantized_parameter_share"] > 0.9
        sizes = [(at / r / "export/model.onnx").stat().st_size for r in RECIPES]
        assert sizes[1] < 0.4 * sizes[0]


def test_the_page_tells_images_from_volumes(done: Workspace) -> None:
    at = done.root / "results/report/labels_smoke"
    html = (at / "index.html").read_text()
    assert "Findings that come together" in html
    assert "16 test volumes of 16 groups" in (done.root / "printed.txt").read_text()
    rows = _table(at / "comparison.csv")
    assert [(r["data"], r["recipe"]) for r in rows] == [(d, r) for d in SHAPE for r in RECIPES]
    assert all(bool(r["map"]) == (r["data"] == "phantom_findings_tiny") for r in rows)


def test_a_second_run_has_nothing_to_do(done: Workspace) -> None:
    assert done.planned(*SWEEP) == {}


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))
