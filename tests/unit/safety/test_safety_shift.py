"""Corrupted copies through the stage: a real ONNX model in onnxruntime, reference and compressed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from refusals import naming
from safety_cases import config
from small_models import write_model

from edgeward.core.errors import UserError
from edgeward.data.store import Prepared
from edgeward.records.safety import Verdict
from edgeward.safety import stage
from edgeward.safety.shift import chosen

CFG = config(resamples=200, corruptions=["noise", "darkness"], severities=[1, 5])
MATRIX, BIAS = 0.05 * np.eye(3), np.array([0.5, 0.0, -0.5])


def judged(root: Path, prepared: Prepared, matrix: np.ndarray) -> Verdict:
    for name, m in (("fp32", MATRIX), ("int8", matrix)):
        write_model(root / f"{name}.onnx", prepared, m, BIAS)
        stage.run(
            CFG, model=root / f"{name}.onnx", prepared=prepared.root, out=root / name,
            reference=None if name == "fp32" else root / "fp32", threads=1,
        )  # fmt: skip
    return Verdict.read(root / "int8/verdict.json")


def test_the_same_model_loses_nothing_more(tmp_path: Path, small_prepared: Prepared) -> None:
    found = judged(tmp_path, small_prepared, MATRIX)
    rows = [(row.corruption, row.severity) for row in found.corruptions]
    assert rows == [("noise", 1), ("noise", 5), ("darkness", 1), ("darkness", 5)]
    for row in found.corruptions:
        assert row.n == len(small_prepared.indices("test"))
        assert row.clean.estimate == row.difference.estimate == row.beyond_clean.estimate == 0
    kept = sorted(p.name for p in (tmp_path / "int8/cases/shift").iterdir())
    assert kept == ["darkness_1", "darkness_5", "noise_1", "noise_5"]


def test_what_is_lost_beyond_clean_images_is_told_from_what_is_lost_there(
    tmp_path: Path, small_prepared: Prepared
) -> None:
    found = judged(tmp_path, small_prepared, 0.1 * MATRIX)
    for row in found.corruptions:
        three = row.beyond_clean.estimate, row.difference.estimate, row.clean.estimate
        beyond, change, clean = (x or 0.0 for x in three)
        assert beyond == pytest.approx(change - clean)
        after, before = row.compressed.estimate or 0.0, row.reference.estimate or 0.0
        assert change == pytest.approx(after - before)


def test_a_reference_without_them_is_refused(tmp_path: Path, small_prepared: Prepared) -> None:
    write_model(tmp_path / "fp32.onnx", small_prepared, MATRIX, BIAS)
    plain = config(resamples=200)
    stage.run(
        plain, model=tmp_path / "fp32.onnx", prepared=small_prepared.root, out=tmp_path / "fp32",
        reference=None, threads=1,
    )  # fmt: skip
    with pytest.raises(UserError, match=naming("noise_1", "assess the reference first")):
        stage.run(
            CFG, model=tmp_path / "fp32.onnx", prepared=small_prepared.root, out=tmp_path / "int8",
            reference=tmp_path / "fp32", threads=1,
        )  # fmt: skip


def test_each_class_has_its_share_and_a_hundred_at_least() -> None:
    labels = np.repeat([0, 1, 2], [9000, 900, 50])
    found = np.bincount(labels[chosen(labels, 2000, 0)])
    assert found.tolist() == [1809, 181, 50]
    assert (chosen(labels, 2000, 0) == chosen(labels, 2000, 0)).all()
