"""The stage on files: a real ONNX model in onnxruntime over prepared data."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from pydantic import ValidationError
from refusals import naming
from safety_cases import config
from small_models import write_model

from edgeward.core.errors import UserError
from edgeward.core.io import read_json
from edgeward.data.store import Prepared, Split, open_prepared, to_input
from edgeward.records.safety import Safety, Verdict
from edgeward.runtimes.base import Session
from edgeward.runtimes.session import open_session
from edgeward.safety import shift, stage
from edgeward.tasks.multiclass.task import TASK

CFG = config(resamples=200, batch_size=7)
MATRIX, BIAS = 0.05 * np.eye(3), np.array([0.5, 0.0, -0.5])


@pytest.fixture(scope="module")
def chain(small_prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference and a compressed model, both assessed; returns their folder."""
    root = tmp_path_factory.mktemp("chain")
    write_model(root / "fp32.onnx", small_prepared, MATRIX, BIAS)
    write_model(root / "int8.onnx", small_prepared, 1.02 * MATRIX, BIAS)
    for name, reference in (("fp32", None), ("int8", root / "fp32")):
        metrics = stage.run(
            CFG, model=root / f"{name}.onnx", prepared=small_prepared.root, out=root / name,
            reference=reference, threads=1,
        )  # fmt: skip
        (root / f"{name}.metrics").write_text(json.dumps(metrics))
    return root


def _run(
    root: Path, prepared: Path, model: str = "fp32.onnx", reference: str | None = None
) -> None:
    stage.run(
        CFG, model=root / model, prepared=prepared, out=root / "again",
        reference=root / reference if reference else None, threads=1,
    )  # fmt: skip


def test_logits_are_those_of_the_split_in_order(chain: Path, small_prepared: Prepared) -> None:
    splits: dict[str, Split] = {"logits.npy": "test", "val_logits.npy": "val"}
    for name, split in splits.items():
        logits = np.load(chain / "fp32/cases" / name)
        images = to_input(small_prepared.images[small_prepared.indices(split)])
        assert logits.dtype == np.float32
        assert logits == pytest.approx(images.mean(axis=(2, 3)) @ MATRIX + BIAS, abs=1e-3)


def test_results_hold_what_the_contract_says(chain: Path, small_prepared: Prepared) -> None:
    safety, verdict = read_json(chain / "int8/safety.json"), read_json(chain / "int8/verdict.json")
    rows = small_prepared.indices("test")
    groups = len(np.unique(small_prepared.groups[rows]))
    assert safety["n"] == {
        "test": len(rows), "val": len(small_prepared.indices("val")), "groups": groups,
        "rare": int((small_prepared.labels[rows] == 2).sum()),
    }  # fmt: skip
    assert safety["confidence_level"] == 0.95
    assert [row["class"] for row in safety["per_class"]] == small_prepared.classes
    assert set(safety["metrics"]) == {metric.name for metric in TASK.metrics}
    for name in safety["metrics"]:
        assert {"estimate", "low", "high"} <= set(safety["metrics"][name])
        assert {"estimate", "low", "high"} <= set(verdict["differences"][name])
    for part in ("confidence", "accuracy", "low", "high", "count"):
        assert len(safety["reliability"]["all"][part]) == len(safety["reliability"]["all"]["count"])
    assert verdict["reference"] == "fp32"
    assert verdict["verdict"] == "inconclusive"
    assert {row["metric"] for row in verdict["endpoints"]} == {
        "recall_rare", "balanced_accuracy", "auc_macro", "ece",
    }  # fmt: skip
    for row in verdict["endpoints"]:
        assert set(row) == {
            "name", "metric", "class", "margin", "floor", "direction", "reference", "compressed", "difference",
            "surely_worse", "n", "n_groups", "outcome", "reason", "cases_needed",
        }  # fmt: skip
    assert verdict["bootstrap"]["resamples"] == 200
    assert read_json(chain / "fp32/verdict.json")["verdict"] == "reference"


def test_metrics_are_flat_finite_numbers(chain: Path) -> None:
    reference, compressed = (
        json.loads((chain / f"{name}.metrics").read_text()) for name in ("fp32", "int8")
    )
    assert all(isinstance(v, float) and np.isfinite(v) for v in compressed.values())
    assert {"auc_macro", "rare_recall", "recall_rare", "ece", "temperature"} <= set(reference)
    assert set(reference) < set(compressed)
    assert compressed["delta_auc_macro"] == pytest.approx(
        compressed["auc_macro"] - reference["auc_macro"]
    )


def test_a_second_run_gives_the_same_bytes(chain: Path, small_prepared: Prepared) -> None:
    _run(chain, small_prepared.root, "int8.onnx", "fp32")
    for name in ("cases/logits.npy", "cases/val_logits.npy", "safety.json", "verdict.json"):
        assert (chain / "again" / name).read_bytes() == (chain / "int8" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", ["a", "b", "c"]), ("data", "other"), ("data_sha256", "f" * 64),
        ("image_size", [64, 64]), ("logit_shift", [0.0, 1.0]),
    ],
)  # fmt: skip
def test_a_model_of_other_data_is_refused(
    tmp_path: Path, small_prepared: Prepared, key: str, value: object
) -> None:
    write_model(tmp_path / "fp32.onnx", small_prepared, MATRIX, BIAS, **{key: value})
    with pytest.raises(UserError, match=naming("fp32.onnx", key)):
        _run(tmp_path, small_prepared.root)
    assert not (tmp_path / "again").exists()


def test_a_model_without_metadata_or_that_is_none_is_refused(
    tmp_path: Path, small_prepared: Prepared
) -> None:
    model = onnx.load(write_model(tmp_path / "x.onnx", small_prepared, MATRIX, BIAS))
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(UserError, match=naming("bare.onnx", "classes", "data_sha256")):
        _run(tmp_path, small_prepared.root, "bare.onnx")
    (tmp_path / "junk.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match=naming("onnxruntime", "junk.onnx")):
        _run(tmp_path, small_prepared.root, "junk.onnx")
    with pytest.raises(UserError, match=naming("none.onnx", "export")):
        _run(tmp_path, small_prepared.root, "none.onnx")


def test_nan_logits_are_refused(tmp_path: Path, small_prepared: Prepared) -> None:
    write_model(tmp_path / "fp32.onnx", small_prepared, MATRIX, np.array([0.0, np.nan, 0.0]))
    with pytest.raises(UserError, match="NaN or infinite"):
        _run(tmp_path, small_prepared.root)


def test_a_reference_of_another_test_set_is_refused(
    chain: Path, tmp_path: Path, small_prepared: Prepared
) -> None:
    shutil.copytree(chain / "fp32", tmp_path / "fp32")
    shutil.copy(chain / "int8.onnx", tmp_path)
    facts = read_json(tmp_path / "fp32/safety.json")
    (tmp_path / "fp32/safety.json").write_text(json.dumps(facts | {"test_sha256": "0" * 64}))
    with pytest.raises(UserError, match=naming("test_sha256", "0" * 64)):
        _run(tmp_path, small_prepared.root, "int8.onnx", "fp32")
    (tmp_path / "fp32/safety.json").write_text(json.dumps(facts))
    (tmp_path / "fp32/cases/logits.npy").unlink()
    with pytest.raises(UserError, match=naming("cases/logits.npy")):
        _run(tmp_path, small_prepared.root, "int8.onnx", "fp32")


def test_an_empty_validation_split_is_refused(
    chain: Path, tmp_path: Path, small_prepared: Prepared
) -> None:
    shutil.copytree(small_prepared.root, tmp_path / "prepared")
    split = tmp_path / "prepared/split.csv"
    split.write_text(split.read_text().replace(",val", ",train"))
    data = open_prepared(tmp_path / "prepared")
    write_model(tmp_path / "fp32.onnx", data, MATRIX, BIAS)
    with pytest.raises(UserError, match=naming("'val'", "data.split")):
        _run(tmp_path, data.root)


def test_a_misspelt_or_senseless_key_is_refused() -> None:
    with pytest.raises(ValidationError, match=naming("resample", "input_value=5")):
        config(resample=5)
    with pytest.raises(ValidationError, match=naming("confidence_level", "input_value=95")):
        config(confidence_level=95)


def test_the_stage_imports_no_heavy_library() -> None:
    """Start-up is part of every job: none of these costs under a second."""
    code = (
        "import sys, edgeward.safety.stage;"
        "print([m for m in ('torch', 'sklearn', 'scipy.stats', 'mlflow', 'pandas', 'matplotlib') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Drifting(Session):
    """A device whose engine adds noise to the logits of the host."""

    def __init__(self, model: Path, noise: float) -> None:
        self.host, self.noise = open_session(model, 1), noise
        self.shape, self.engine = self.host.shape, ("drifting", "1.0")
        self.asked: list[int] = []

    def run(self, images: np.ndarray) -> np.ndarray:
        self.asked.append(len(images))
        logits = self.host.run(images)
        rng = np.random.default_rng(round(float(images.sum())))
        return (logits + self.noise * rng.normal(size=logits.shape)).astype(np.float32)

    def metadata(self) -> Mapping[str, str]:
        return self.host.metadata()


def on_device(
    root: Path, data: Prepared, name: str, out: Path, noise: float, **changes: Any
) -> Safety:
    session = Drifting(root / f"{name}.onnx", noise)
    place = stage.Elsewhere("board", True, session, 50, root / name)
    stage.run(
        CFG.model_copy(update=changes), model=root / f"{name}.onnx", prepared=data.root, out=out / name,
        reference=out / "fp32" if name != "fp32" else None, threads=1, elsewhere=place,
    )  # fmt: skip
    assert max(session.asked) == 50
    return Safety.read(out / name / "safety.json")


def test_a_device_that_computes_as_the_host_decides_as_it(
    chain: Path, small_prepared: Prepared, tmp_path: Path
) -> None:
    found = [on_device(chain, small_prepared, name, tmp_path, 0.0) for name in ("fp32", "int8")]
    for name, safety in zip(("fp32", "int8"), found, strict=True):
        host = Safety.read(chain / name / "safety.json")
        assert safety.on is not None
        assert (safety.on.device, safety.on.engine, safety.on.emulated) == (
            "board",
            "drifting 1.0",
            True,
        )
        assert safety.on.host_engine.startswith("onnxruntime ")
        assert safety.on.agreement.estimate == 1
        assert safety.metrics == host.metrics
        assert host.on is None
    there, here = (Verdict.read(root / "int8/verdict.json") for root in (tmp_path, chain))
    assert there == here


def test_a_device_that_decides_otherwise_gets_a_verdict_of_its_own(
    chain: Path, small_prepared: Prepared, tmp_path: Path
) -> None:
    on_device(chain, small_prepared, "fp32", tmp_path, 0.0)
    found = on_device(chain, small_prepared, "int8", tmp_path, 3.0)
    logits = np.load(tmp_path / "int8/cases/logits.npy"), np.load(chain / "int8/cases/logits.npy")
    same = np.mean(logits[0].argmax(1) == logits[1].argmax(1))
    assert 0.2 < same < 0.95
    assert found.on is not None
    estimate, low, high = found.on.agreement
    assert estimate == pytest.approx(same)
    assert low < same < high
    there, here = (Verdict.read(root / "int8/verdict.json") for root in (tmp_path, chain))
    assert (there.differences["accuracy"].estimate or 0) < (
        here.differences["accuracy"].estimate or 0
    )


def test_a_part_of_the_test_split_may_decide(
    chain: Path, small_prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shift, "LEAST", 5)
    changes = {"device_images": 30}
    whole = Safety.read(chain / "fp32/safety.json")
    for name in ("fp32", "int8"):
        found = on_device(chain, small_prepared, name, tmp_path, 0.0, **changes)
        assert found.n["test"] < whole.n["test"]
        assert found.n["val"] == whole.n["val"]
        assert found.on is not None
        assert found.on.agreement.n == found.n["test"]
        for row, all_of_it in zip(found.per_class, whole.per_class, strict=True):
            assert row.n >= min(5, all_of_it.n)
    with pytest.raises(UserError, match=naming("test_sha256")):
        on_device(chain, small_prepared, "int8", tmp_path, 0.0)
