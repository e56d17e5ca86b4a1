"""Stage assess for segmentation, on ONNX models made by hand: files, verdicts, refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import naming
from safety_cases import of_few_cases
from small_models import write_blurring

from edgeward.core.errors import UserError
from edgeward.core.io import read_json
from edgeward.core.windows import sliding
from edgeward.data.store import Prepared
from edgeward.safety.config import StudyConfig
from edgeward.safety.pooled import run as pool
from edgeward.safety.stage import run


def assess(
    data: Prepared, root: Path, reference: Path | None = None, cfg: StudyConfig | None = None,
    size: tuple[int, ...] | None = None, **changes: Any,
) -> dict[str, float]:  # fmt: skip
    size = size or ((32, 32) if data.volumes is None else (16, 16, 16))
    model = write_blurring(root / "model.onnx", data, size, **changes)
    root.mkdir(parents=True, exist_ok=True)
    return run(
        cfg or of_few_cases(),
        model=model,
        prepared=data.root,
        out=root,
        reference=reference,
        threads=1,
    )


Assessed = tuple[Prepared, Path, dict[str, float]]
"""Data, where a model was assessed on them, and its metrics."""


@pytest.fixture(scope="module", params=["small_masks", "small_volumes"])
def assessed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Assessed:
    data = request.getfixturevalue(request.param)
    root = tmp_path_factory.mktemp("assessed") / "reference"
    return data, root, assess(data, root)


def test_the_reference_writes_what_the_contract_says(assessed: Assessed) -> None:
    data, root, metrics = assessed
    safety, verdict = read_json(root / "safety.json"), read_json(root / "verdict.json")
    rows = data.indices("test")
    assert safety["n"]["test"] == len(rows) == 12
    assert safety["n"]["groups"] == 6
    assert (safety["task"], safety["classes"]) == ("segmentation", ["organ", "spot"])
    dice = safety["metrics"]["dice"]
    assert 0.75 < dice["low"] <= dice["estimate"] <= dice["high"]
    assert metrics["dice"] == dice["estimate"]
    assert [row["n"] for row in safety["per_class"]] == [12, 8]
    assert np.sum(safety["confusion"]) == sum(data.case(int(i))[1].size for i in rows)
    reliability = safety["reliability"]["all"]
    assert sum(reliability["count"]) == np.sum(safety["confusion"])
    assert sum(safety["reliability"]["boundary"]["count"]) < np.sum(safety["confusion"])
    assert verdict["verdict"] == "reference"
    with np.load(root / "cases/predictions.npz") as content:
        assert content["index"].tolist() == rows.tolist()
        assert len(content["labels"]) == content["shape"].prod(axis=1).sum()


def test_label_maps_are_those_of_the_blended_windows(assessed: Assessed) -> None:
    data, root, _ = assessed
    index = int(data.indices("test")[3])
    import onnxruntime

    session = onnxruntime.InferenceSession(root / "model.onnx", providers=["CPUExecutionProvider"])
    size = (32, 32) if data.volumes is None else (16, 16, 16)
    expected = sliding(
        lambda w: session.run(None, {"image": w})[0], data.case(index)[0], size, 0.5, 2
    ).argmax(0)
    with np.load(root / "cases/predictions.npz") as content:
        place = content["index"].tolist().index(index)
        ends = np.cumsum(content["shape"].prod(axis=1))
        found = content["labels"][ends[place] - expected.size : ends[place]]
        np.testing.assert_array_equal(found.reshape(content["shape"][place]), expected)
    assert expected.shape == data.case(index)[1].shape


def test_the_same_model_again_passes_and_a_blunt_one_fails_on_calibration(
    assessed: Assessed, tmp_path: Path
) -> None:
    data, root, _ = assessed
    again = assess(data, tmp_path / "same", reference=root)
    assert again["verdict_code"] == 1, read_json(tmp_path / "same" / "verdict.json")["reasons"]
    assert again["churn"] == again["delta_dice"] == 0
    blunt = assess(data, tmp_path / "blunt", reference=root, sharpness=0.00005)
    verdict = read_json(tmp_path / "blunt" / "verdict.json")
    assert verdict["verdict"] == "fail"
    assert blunt["churn"] == 0  # scaled logits decide alike
    assert blunt["delta_ece"] > 0.05
    failed = {row["metric"] for row in verdict["endpoints"] if row["outcome"] == "fail"}
    assert "ece" in failed
    assert not any(metric.startswith("dice") for metric in failed)


def test_seeds_are_pooled(assessed: Assessed, tmp_path: Path) -> None:
    data, root, _ = assessed
    folders: dict[tuple[str, str], dict[int, Path]] = {("m", "fp32"): {0: root}, ("m", "int8"): {}}
    for name, seed in (("fp32", 1), ("int8", 0), ("int8", 1)):
        folder = tmp_path / f"{name}{seed}"
        assess(data, folder, sharpness=0.01 - 0.002 * seed - (0.005 if name == "int8" else 0))
        folders["m", name][seed] = folder
    out = tmp_path / "pooled.json"
    pool(of_few_cases(), prepared=data.root, folders=folders, references={"m": "fp32"}, out=out)
    found = read_json(out)
    assert found["n"] == {"test": 12, "groups": 6}
    change = found["differences"][0]
    assert (change["recipe"], change["paired"]) == ("int8", True)
    mean = [
        np.mean(
            [
                read_json(f / "safety.json")["metrics"]["ece"]["estimate"]
                for f in folders["m", r].values()
            ]
        )
        for r in ("int8", "fp32")
    ]
    assert change["metrics"]["ece"]["estimate"] == pytest.approx(mean[0] - mean[1])
    assert set(change["metrics"]) >= {"dice", "dice_organ", "dice_spot", "boundary_ece"}


def test_what_does_not_belong_together_is_refused(small_masks: Prepared, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=naming("model.onnx", "task", "multiclass", "segmentation")):
        assess(small_masks, tmp_path, task="multiclass")
    with pytest.raises(UserError, match=naming("model.onnx", "image_size", "(16, 16)", "(32, 32)")):
        assess(small_masks, tmp_path, size=(16, 16))
    with pytest.raises(UserError, match=naming("nothing/safety.json", "assess")):
        assess(small_masks, tmp_path, reference=tmp_path / "nothing")
    assess(small_masks, tmp_path / "reference")
    with pytest.raises(
        UserError, match=naming("reference", "measured", "'tolerance': 2.0", "'tolerance': 5.0")
    ):
        assess(
            small_masks, tmp_path / "next", reference=tmp_path / "reference",
            cfg=of_few_cases(tolerance=5.0),
        )  # fmt: skip
    with pytest.raises(UserError, match=naming("case 6", "test")):
        assess(small_masks, tmp_path, sharpness=float("inf"))


def test_no_torch_is_imported() -> None:
    code = (
        "import edgeward.tasks.segmentation.assess, edgeward.safety.stage, edgeward.safety.pooled, sys; "
        "assert not {'torch', 'monai', 'mlflow', 'skimage'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
