"""Grades: metrics against scikit-learn, and from a folder of images to the verdict, in one process, on almost nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from grades import GRADES, STEPS, drawn, model
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shipped import shipped
from sklearn.metrics import cohen_kappa_score
from sklearn.metrics import mean_absolute_error as mae

from edgeward.compression.config import RecipeConfig
from edgeward.compression.stage import run as compress
from edgeward.core.errors import UserError
from edgeward.data import stage as prepare
from edgeward.data.config import DataConfig
from edgeward.data.store import open_prepared
from edgeward.export.config import export_config
from edgeward.export.stage import run as export
from edgeward.models.config import ModelConfig
from edgeward.records.parity import Parity
from edgeward.records.safety import Safety, Verdict
from edgeward.safety import stage
from edgeward.safety.config import SafetyGroup
from edgeward.tasks.assessment import Key
from edgeward.tasks.ordinal.config import LossConfig
from edgeward.tasks.ordinal.grades import decide, disordered, kappa, mean_absolute_error
from edgeward.training.config import TrainConfig
from edgeward.training.stage import run as train


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=60).filter(
        lambda pairs: len({grade for pair in pairs for grade in pair}) > 1
    )
)
@settings(deadline=None)
def test_agreement_and_distance_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, decision = np.array(pairs).T
    table = np.zeros((5, 5))
    np.add.at(table, (truth, decision), 1.0)
    expected = cohen_kappa_score(truth, decision, weights="quadratic", labels=range(5))
    np.testing.assert_allclose(kappa(table), expected, atol=1e-12)
    np.testing.assert_allclose(mean_absolute_error(table), mae(truth, decision))
    both = np.stack([table, 3 * table], axis=-1)
    np.testing.assert_allclose(kappa(both), [expected, expected], atol=1e-12)


def test_a_grade_is_the_number_of_steps() -> None:
    called = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)
    assert decide(called).tolist() == [0, 1, 2, 3, 1]
    assert disordered(called).tolist() == [False, False, False, False, True]


def test_metrics_are_those_of_the_grades() -> None:
    logits, grades, groups = drawn()
    arm = model(logits, grades, groups)
    said = (logits > 0).sum(1)
    assert arm.value(Key("kappa")) == pytest.approx(
        cohen_kappa_score(grades, said, weights="quadratic")
    )
    assert arm.value(Key("mean_absolute_error")) == pytest.approx(mae(grades, said))
    assert arm.value(Key("accuracy")) == pytest.approx((grades == said).mean())
    assert arm.value(Key("far_off")) == pytest.approx((abs(grades - said) >= 2).mean())
    ill = grades >= 2
    recall = (logits[ill, 1] > 0).mean()
    assert arm.value(Key("recall", "moderate or worse")) == pytest.approx(recall)
    assert arm.confusion.sum(axis=1).tolist() == np.bincount(grades).tolist()
    assert np.trace(arm.confusion) == (grades == said).sum()
    assert arm.labels == ["below mild", "mild", "moderate", "severe"]


def test_every_loss_names_one_of_findings() -> None:
    for name in ("logit_adjusted", "cross_entropy", "class_balanced"):
        mine = LossConfig.model_validate({"name": f"cumulative_{name}", "tau": 0.5, "beta": 0.9})
        theirs = mine.of_findings
        assert (theirs.name, theirs.tau, theirs.beta) == (f"binary_{name}", 0.5, 0.9)


def folder(root: Path) -> Path:
    """Draw fundi whose red spots grow in number with the grade."""
    rng = np.random.default_rng(0)
    for grade, (name, n) in enumerate(zip(GRADES, (60, 40, 30, 30), strict=True)):
        (root / "fundi" / name).mkdir(parents=True)
        for number in range(n):
            image = rng.normal(120, 12, (64, 64, 3))
            for _ in range(6 * grade):
                y, x = rng.integers(4, 60, 2)
                image[y - 3 : y + 3, x - 3 : x + 3] = (230, 20, 20)
            at = root / "fundi" / name / f"{number}.png"
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(at)
    return root


def data_config(*classes: str) -> DataConfig:
    source = {"kind": "folder", "path": "fundi", "classes": list(classes)}
    return DataConfig.model_validate(
        shipped("data", "phantom_tiny")
        | {"name": "fundi", "task": "ordinal", "source": source, "split": {"kind": "stratified"}}
        | {"rare": {"rule": "prevalence", "below": 0.25}, "critical": ["moderate or worse"]}
        | {"calibration": {"n": 32, "min_per_class": 1}, "strata": {}}
    )


def test_from_a_folder_to_the_verdict(tmp_path: Path) -> None:
    data = data_config(*GRADES)
    prepare.run(data, out=tmp_path / "data", data_root=folder(tmp_path))
    stored = open_prepared(tmp_path / "data")
    assert stored.classes == STEPS == stored.outputs
    assert stored.findings is not None
    np.testing.assert_array_equal(stored.findings.sum(1), stored.labels)
    assert stored.card.strata is not None
    assert sum(stored.card.strata["train"].values()) == len(stored.indices("train"))
    assert list(stored.card.strata["train"]) == GRADES
    network = ModelConfig.model_validate(shipped("model", "dscnn"))
    asked = ("train.epochs=12", "train.precision=fp32", "train.batch_size=16", "train.lr=0.004")
    metrics = train(
        network, TrainConfig.model_validate(shipped("train", "ordinal", *asked)), seed=0,
        prepared=tmp_path / "data", out=tmp_path / "train", work=tmp_path / "work", threads=1,
    )  # fmt: skip
    assert metrics["val_kappa"] > 0.5, "nothing was learnt"
    for name, reference in (("fp32", None), ("ptq_int8_aligned", "fp32")):
        at = tmp_path / name
        compress(
            RecipeConfig.model_validate({"name": name, "steps": shipped("compress", name)["steps"]}),
            seed=0, checkpoint=tmp_path / "train" / "model.pt", prepared=tmp_path / "data", out=at,
            work=at / "work", threads=1,
        )  # fmt: skip
        export(
            export_config(shipped("export", "onnx")), program=at / "model.pt2", recipe=at / "recipe.json",
            prepared=tmp_path / "data", out=at, threads=1,
        )  # fmt: skip
        section = shipped("safety", "default")["ordinal"] | {"critical": data.critical}
        stage.run(
            SafetyGroup.model_validate({"resamples": 200, "ordinal": section}), model=at / "model.onnx",
            prepared=tmp_path / "data", out=at / "assess", threads=1,
            reference=None if reference is None else tmp_path / reference / "assess",
        )  # fmt: skip
    assert Parity.read(tmp_path / "ptq_int8_aligned" / "parity.json").passed
    safety = Safety.read(tmp_path / "ptq_int8_aligned" / "assess" / "safety.json")
    assert safety.labels == ["below mild", "mild", "moderate", "severe"]
    assert np.shape(safety.confusion) == (4, 4)
    verdict = Verdict.read(tmp_path / "ptq_int8_aligned" / "assess" / "verdict.json")
    asked_of = [row.name for row in verdict.endpoints]
    assert asked_of == [
        "recall of moderate or worse", "recall of severe or worse",
        "kappa", "mean absolute error", "mean AUC", "RMS-ECE",
    ]  # fmt: skip
    direction = {row.metric: row.direction for row in verdict.endpoints}
    assert direction["mean_absolute_error"] == "lower"


def test_two_classes_have_no_order(tmp_path: Path) -> None:
    folder(tmp_path)
    for name in GRADES[2:]:
        for file in (tmp_path / "fundi" / name).iterdir():
            file.unlink()
        (tmp_path / "fundi" / name).rmdir()
    with pytest.raises(
        UserError, match=r"classes none, mild only; grades are three or more.*multiclass"
    ):
        prepare.run(data_config(*GRADES[:2]), out=tmp_path / "data", data_root=tmp_path)
