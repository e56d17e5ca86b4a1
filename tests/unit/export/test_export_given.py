"""Finished files of others: the file that is written computes what the given one computes on images that are normalised by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from given_models import MEAN, STD, colour_classifier
from refusals import naming
from shipped import shipped
from small_data import CLASSES, write_small_prepared
from torchvision.transforms.v2.functional import normalize

from edgeward.compression.config import RecipeConfig, Static
from edgeward.core.errors import UserError
from edgeward.data.store import Prepared, open_prepared, to_input
from edgeward.export.adopt import run
from edgeward.export.config import export_config
from edgeward.export.taken import examine
from edgeward.models.config import ModelConfig, Takes
from edgeward.records.parity import Parity
from edgeward.records.recipe import Recipe
from edgeward.runtimes.onnxruntime.given import open_given
from edgeward.runtimes.session import open_session

GREY = [1.0] * 3, [0.0] * 3  # the file takes grey levels as they are
IMAGENET = Takes(mean=MEAN, std=STD)


def by_hand(images: np.ndarray) -> np.ndarray:
    """Normalise stored images, uint8 (b, h, w, c), as a training script does: float32 (b, c, h, w)."""
    tensor = torch.from_numpy(np.moveaxis(images, -1, 1).copy()).float() / 255
    return normalize(tensor, MEAN, STD).numpy()


def as_it_is(path: Path, images: np.ndarray, output: str) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run([output], {name: one[None]})[0] for one in images])


def written(path: Path, takes: Takes | None, images: np.ndarray) -> np.ndarray:
    """Write the file anew, and return what it gives for stored images, uint8 (b, h, w, c), all at once."""
    target = path.with_suffix(".written.onnx")
    given = open_given(path, takes)
    given.write(target, {"edgeward_format": 1}, to_input(images[:2]), CLASSES, 1)
    session = open_session(target, 1)
    assert session.metadata()["edgeward_format"] == "1"
    return session.run(to_input(images))


@pytest.mark.parametrize(
    ("made", "takes"),
    [
        ({}, {}),
        ({"batch": 1}, {}),
        ({"batch": 1, "batch_inside": True}, {}),
        ({"size": "side"}, {}),
        ({"names": ("image", "logits")}, {}),
        ({"names": ("logits", "image")}, {}),
        ({"features": True}, {"output": "y"}),
        ({"probabilities": True}, {"gives": "probabilities"}),
    ],
)
def test_a_normalised_input(tmp_path: Path, small_prepared: Prepared, made: dict[str, Any], takes: dict[str, Any]) -> None:  # fmt: skip
    path = colour_classifier(tmp_path / "a.onnx", **made)
    images = np.array(small_prepared.images[:5])
    expected = as_it_is(path, by_hand(images), made.get("names", ("x", "y"))[1])
    if "probabilities" in made:
        expected = np.log(expected)
    found = written(path, IMAGENET.model_copy(update=takes), images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8])
@pytest.mark.parametrize("nhwc", [False, True])
@pytest.mark.parametrize("bgr", [False, True])
def test_grey_levels_in_any_layout(tmp_path: Path, small_prepared: Prepared, dtype: type, nhwc: bool, bgr: bool) -> None:  # fmt: skip
    scale, shift = GREY
    path = colour_classifier(
        tmp_path / "a.onnx", scale=scale, shift=shift, dtype=dtype, nhwc=nhwc, bgr=bgr
    )
    images = np.array(small_prepared.images[:5])
    theirs = images[..., ::-1] if bgr else images
    theirs = theirs if nhwc else np.moveaxis(theirs, -1, 1)
    expected = as_it_is(path, np.ascontiguousarray(theirs.astype(dtype)), "y")
    takes = Takes(
        input_range=[0, 255],
        layout="nhwc" if nhwc else "nchw",
        order="bgr" if bgr else "rgb",
    )
    np.testing.assert_allclose(written(path, takes, images), expected, rtol=1e-3, atol=1e-3)


def test_classes_are_put_in_the_order_of_the_data(tmp_path: Path, small_prepared: Prepared) -> None:
    images = np.array(small_prepared.images[:5])
    straight = written(colour_classifier(tmp_path / "a.onnx"), IMAGENET, images)
    turned = [CLASSES[2], CLASSES[0], CLASSES[1]]
    path = colour_classifier(tmp_path / "b.onnx", classes=turned)
    takes = IMAGENET.model_copy(update={"classes": turned})
    np.testing.assert_allclose(written(path, takes, images), straight, rtol=1e-5)


def test_a_file_of_this_project_says_itself_what_it_takes(
    tmp_path: Path, small_prepared: Prepared
) -> None:
    images = np.array(small_prepared.images[:3])
    path = colour_classifier(tmp_path / "a.onnx")
    says = {"edgeward_format": 1, "input_range": [0, 255], "classes": CLASSES}
    target = tmp_path / "b.onnx"
    open_given(path, IMAGENET).write(target, says, to_input(images[:2]), CLASSES, 1)
    expected = open_session(target, 1).run(to_input(images))
    for said in (None, IMAGENET):
        np.testing.assert_allclose(written(target, said, images), expected, rtol=1e-5, atol=1e-5)


def test_a_batch_that_is_built_in_stays(tmp_path: Path, small_prepared: Prepared) -> None:
    for inside, batch in ((True, 1), (False, "batch")):
        path = colour_classifier(tmp_path / f"{inside}.onnx", batch=1, batch_inside=inside)
        written(path, IMAGENET, np.array(small_prepared.images[:3]))
        session = onnxruntime.InferenceSession(str(path.with_suffix(".written.onnx")))
        assert session.get_inputs()[0].shape[0] == batch


@pytest.mark.parametrize(
    ("made", "takes", "named"),
    [
        ({}, None, ("takes", "input_range", "config/model/")),
        ({"size": 64}, IMAGENET, ("image_size", "(64, 64)", "(32, 32)")),
        ({"nhwc": True}, IMAGENET, ("takes.layout", 32, 3)),
        ({"features": True}, IMAGENET, ("takes.output", "'vector'", "'y'")),
        ({}, Takes(mean=MEAN[:1], std=STD[:1]), ("takes.mean", "takes.std", 3, 1)),
        ({}, Takes(classes=["common", "rare"]), ("takes.classes", "'middling'")),
        ({}, Takes(classes=["common", "rare", "other"]), ("takes.classes", "'other'")),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, small_prepared: Prepared, made: dict[str, Any], takes: Takes | None, named: tuple[object, ...]
) -> None:  # fmt: skip
    path = colour_classifier(tmp_path / "a.onnx", **made)
    with pytest.raises(UserError, match=naming(path, *named)):
        written(path, takes, np.array(small_prepared.images[:2]))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(UserError, match=naming(path)):
        open_given(path, IMAGENET)


@pytest.mark.parametrize(
    ("made", "takes", "doubted"),
    [
        ({}, IMAGENET, ()),
        ({"scale": GREY[0], "shift": GREY[1], "favour": 0.5}, Takes(), ("input 0 to 255", "input_range")),
        ({"bgr": True}, IMAGENET, ("BGR", "order")),
        ({"classes": [CLASSES[1], CLASSES[0], CLASSES[2]]}, IMAGENET, ("takes.classes", "middling, common and rare")),
    ],
)  # fmt: skip
def test_a_file_that_is_taken_wrongly_is_doubted(
    tmp_path: Path, small_prepared: Prepared, made: dict[str, Any], takes: Takes, doubted: tuple[str, ...]
) -> None:  # fmt: skip
    found = examine(open_given(colour_classifier(tmp_path / "a.onnx", **made), takes), small_prepared, 1)  # fmt: skip
    said = " ".join(found.doubts)
    assert all(word in said for word in doubted)
    assert bool(found.doubts) == bool(doubted)
    assert found.n == len(small_prepared.indices("val"))
    if not doubted:
        assert found.correct > 0.95


def test_the_order_that_is_proposed_heals(tmp_path: Path, small_prepared: Prepared) -> None:
    stated, true = [CLASSES[1], CLASSES[2], CLASSES[0]], [CLASSES[2], CLASSES[0], CLASSES[1]]
    path = colour_classifier(tmp_path / "a.onnx", classes=true)
    takes = IMAGENET.model_copy(update={"classes": stated})
    [doubt] = [d for d in examine(open_given(path, takes), small_prepared, 1).doubts if "takes.classes" in d]  # fmt: skip
    assert f"{true[0]}, {true[1]} and {true[2]}" in doubt
    healed = IMAGENET.model_copy(update={"classes": true})
    assert not examine(open_given(path, healed), small_prepared, 1).doubts


def test_a_random_file_is_no_better_than_chance(tmp_path: Path, small_prepared: Prepared) -> None:
    path = colour_classifier(tmp_path / "a.onnx", scale=[0.0] * 3)
    found = examine(open_given(path, IMAGENET), small_prepared, 1)
    assert any(f"{found.constant:.0%}" in doubt for doubt in found.doubts)


def adopted(
    tmp_path: Path, data: Prepared, recipe: RecipeConfig, **made: Any
) -> tuple[Recipe, Parity, dict[str, float]]:
    """Take a file as a recipe; return what the stage writes."""
    path = colour_classifier(tmp_path / "theirs.onnx", **made)
    takes = IMAGENET
    model = ModelConfig(name="theirs", builder="onnx", file=path.name, family="other", takes=takes)
    built, out = tmp_path / "compress", tmp_path / "export"
    built.mkdir()
    out.mkdir()
    cfg = export_config(shipped("export", "onnx"))
    metrics = run(
        model, recipe, cfg, seed=0, file=path, prepared=data.root, built=built, out=out, threads=1
    )
    return Recipe.read(built / "recipe.json"), Parity.read(out / "parity.json"), metrics


def test_stage(tmp_path: Path, small_prepared: Prepared) -> None:
    as_given = RecipeConfig(name="as_given", file="theirs.onnx")
    recipe, parity, metrics = adopted(tmp_path, small_prepared, as_given, batch=1)
    assert parity.passed
    assert parity.taken is not None
    assert metrics["correct"] == parity.taken.correct
    assert recipe.backend == "somebody"
    assert recipe.precision == "fp32"
    assert recipe.parameters >= 12  # 3 x 3 weights, 3 biases
    np.testing.assert_allclose(recipe.meta.mean, MEAN, rtol=1e-6)
    np.testing.assert_allclose(recipe.meta.std, STD, rtol=1e-6)
    assert recipe.meta.classes == CLASSES
    assert recipe.found["file"] == "theirs.onnx"
    assert recipe.calibration.n == 0


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_file_is_quantized_with_the_calibration_images(
    tmp_path: Path, small_prepared: Prepared, batch: int | str
) -> None:
    cfg = RecipeConfig(name="theirs_int8", file="theirs.onnx", quantize=Static())
    recipe, parity, metrics = adopted(tmp_path, small_prepared, cfg, batch=batch)
    assert parity.passed
    assert recipe.precision == "int8"
    assert recipe.quantized_parameter_share > 0.5
    assert recipe.calibration.n == len(small_prepared.calibration)
    assert metrics["correct"] > 0.95
    given = colour_classifier(tmp_path / "float.onnx", batch=batch)
    images = to_input(small_prepared.images[small_prepared.indices("val")])
    before = open_given(given, IMAGENET).forward(CLASSES, 1)(images)
    after = open_session(tmp_path / "export" / "model.onnx", 1).run(images)
    spread = before.std()
    assert 0 < np.abs(before - after).mean() < 0.05 * spread


def test_what_was_taken_off_in_training_is_added_again(
    tmp_path: Path, small_prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = [CLASSES[2], CLASSES[0], CLASSES[1]]
    takes = IMAGENET.model_copy(update={"classes": turned, "logit_shift": [-2.0, 0.5, -1.0]})
    monkeypatch.setitem(globals(), "IMAGENET", takes)
    as_given = RecipeConfig(name="as_given", file="theirs.onnx")
    recipe, _, _ = adopted(tmp_path, small_prepared, as_given, classes=turned)
    assert recipe.meta.logit_shift == [0.5, -1.0, -2.0]
    own = open_given(tmp_path / "export" / "model.onnx", None).takes
    assert (own.classes, own.logit_shift) == (CLASSES, [0.5, -1.0, -2.0])
    monkeypatch.setitem(globals(), "IMAGENET", takes.model_copy(update={"logit_shift": [1.0]}))
    (tmp_path / "again").mkdir()
    with pytest.raises(UserError, match=naming("takes.logit_shift", 1, 3)):
        adopted(tmp_path / "again", small_prepared, as_given, classes=turned)


def test_without_training_images_nothing_is_calibrated(tmp_path: Path) -> None:
    root = write_small_prepared(tmp_path / "small")
    (root / "calibration.csv").write_text("index\n")
    cfg = RecipeConfig(name="theirs_int8", file="theirs.onnx", quantize=Static())
    with pytest.raises(UserError, match=naming("calibration", root, 0)):
        adopted(tmp_path, open_prepared(root), cfg)
