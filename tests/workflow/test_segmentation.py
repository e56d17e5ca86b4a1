"""Segmentation through the whole chain: images in the plane and volumes, in one sweep."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from workspace import Workspace, copy_project

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

SWEEP = ("--config", "sweep=segmentation_smoke")
DATA = {"phantom_masks_tiny": 2, "phantom3d_tiny": 3}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The finished sweep; what it printed is in ``printed.txt``."""
    workspace = copy_project(tmp_path_factory.mktemp("segmentation") / "project")
    (workspace.root / "printed.txt").write_text(workspace.snakemake(*SWEEP).stdout)
    return workspace


def test_label_maps_are_those_that_are_judged(done: Workspace) -> None:
    for data, dims in DATA.items():
        prepared = done.root / "results" / data / "prepare"
        n_test = sum(row["split"] == "test" for row in _table(prepared / "split.csv"))
        for recipe in ("fp32", "ptq_int8"):
            at = done.root / "results" / data / "u_lite/s0" / recipe / "assess"
            with np.load(at / "cases/predictions.npz") as content:
                index, shape, labels = (content[k] for k in ("index", "shape", "labels"))
            assert len(index) == n_test
            assert shape.shape == (n_test, dims)
            assert shape.prod(axis=1).sum() == len(labels)
            predicted = sum(int(row["predicted"]) for row in _table(at / "cases/cases.csv"))
            assert predicted == np.count_nonzero(labels)
        verdict = json.loads((at / "verdict.json").read_text())
        assert verdict["verdict"] in ("pass", "fail", "inconclusive")
        assert {e["metric"] for e in verdict["endpoints"]} >= {"dice", "ece", "boundary_ece"}


def test_the_page_shows_cases_and_whole_volumes(done: Workspace) -> None:
    at = done.root / "results/report/segmentation_smoke"
    html = (at / "index.html").read_text()
    assert len(re.findall(r'src="data:image/webp;base64,', html)) == 2 * 3 * 4
    assert "Whole volumes" in html
    assert (at / "figures/volumes.svg").is_file()
    rows = _table(at / "comparison.csv")
    assert [(r["data"], r["recipe"]) for r in rows] == [
        (data, recipe) for data in DATA for recipe in ("fp32", "ptq_int8")
    ]
    assert all(r["dice"] and "auc_macro" not in r for r in rows)


def test_summary_and_second_run(done: Workspace) -> None:
    printed = (done.root / "printed.txt").read_text()
    tail = printed[printed.index("(100%) done") :]
    assert "at rim" in tail
    assert all(data in tail for data in DATA)
    assert done.planned(*SWEEP) == {}


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))
