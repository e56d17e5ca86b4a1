"""The phantom: same bytes everywhere, lesions hold together, classes differ as they should."""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys

import numpy as np
import pytest

from edgeward.data.config import PhantomSource
from edgeward.data.phantom import CENTRES, CLASSES, DrawnLesion, Style, _unit, render
from edgeward.data.sources.phantom import class_counts, plan

STYLE = Style(classes=CLASSES, size=64, seed=7, overlap=1.2, hair=0.5, noise=4.0)
GOLDEN = "d62a110f3b4e6d321653f4c2fe6a0722f3e1b17e239b02bc17bf3875f1bc9a9c"


def golden_digest() -> str:
    """Digest of 42 images: every class, two views a lesion, at two sizes."""
    total = hashlib.sha256()
    for size in (32, 64):
        style = Style(classes=CLASSES, size=size, seed=7, overlap=1.2, hair=0.5, noise=4.0)
        lesions = [DrawnLesion(k % 3, label, k, 2) for label in range(7) for k in range(3)]
        for array in render(lesions, style):
            total.update(array.tobytes())
    return total.hexdigest()


def test_images_are_the_same_bytes_on_every_machine() -> None:
    assert golden_digest() == GOLDEN


def test_images_do_not_depend_on_the_vector_unit() -> None:
    umath = importlib.import_module("numpy._core._multiarray_umath")  # not in numpy's stubs

    optional = [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__.get(name)]
    if not optional:
        pytest.skip("this processor has nothing beyond the baseline to switch off")
    code = "import test_data_phantom as t; print(t.golden_digest())"
    environment = {
        **os.environ,
        "NPY_DISABLE_CPU_FEATURES": " ".join(optional),
        "PYTHONPATH": os.path.dirname(__file__),  # noqa: PTH120
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == GOLDEN


def test_an_image_does_not_depend_on_what_is_drawn_with_it() -> None:
    lesions = [DrawnLesion(0, 4, 3, 2), DrawnLesion(1, 0, 9, 1), DrawnLesion(2, 6, 1, 1)]
    together, masks = render(lesions, STYLE)
    alone = [render([lesion], STYLE) for lesion in lesions]
    np.testing.assert_array_equal(together, np.concatenate([images for images, _ in alone]))
    np.testing.assert_array_equal(masks, np.concatenate([mask for _, mask in alone]))


def test_seed_split_and_number_each_give_other_lesions() -> None:
    import dataclasses

    base = render([DrawnLesion(0, 5, 0, 1)], STYLE)[0]
    others = [
        render([DrawnLesion(1, 5, 0, 1)], STYLE)[0],
        render([DrawnLesion(0, 5, 1, 1)], STYLE)[0],
        render([DrawnLesion(0, 5, 0, 1)], dataclasses.replace(STYLE, seed=8))[0],
    ]
    for other in others:
        assert np.abs(base.astype(int) - other).mean() > 3


def test_a_subset_of_classes_draws_the_same_lesions() -> None:
    import dataclasses

    few = dataclasses.replace(STYLE, classes=("mel", "nv"))
    whole = render([DrawnLesion(0, CLASSES.index("nv"), 2, 1)], STYLE)[0]
    np.testing.assert_array_equal(render([DrawnLesion(0, 1, 2, 1)], few)[0], whole)


def test_views_of_a_lesion_differ_and_yet_resemble_each_other() -> None:
    style = Style(classes=CLASSES, size=64, seed=1, overlap=1.2, hair=0.0, noise=4.0)
    images, masks = render([DrawnLesion(0, i % 7, i, 2) for i in range(56)], style)
    pixels = images.astype(float)
    inside = (pixels * masks[..., None]).sum((1, 2)) / masks.sum((1, 2))[:, None]
    inside -= inside.mean(0)
    first, second = inside[0::2], inside[1::2]
    own = np.linalg.norm(first - second, axis=1).mean()
    foreign = np.linalg.norm(first - np.roll(second, 7, axis=0), axis=1).mean()
    assert own < 0.8 * foreign
    assert np.all(np.abs(pixels[0::2] - pixels[1::2]).mean((1, 2, 3)) > 1)


@pytest.mark.parametrize("size", [16, 48, 96])
def test_shapes_types_and_masks(size: int) -> None:
    style = Style(classes=CLASSES, size=size, seed=3, overlap=1.0, hair=0.3, noise=4.0)
    images, masks = render([DrawnLesion(0, label, 0, 3) for label in range(7)], style)
    assert images.shape == (21, size, size, 3)
    assert images.dtype == masks.dtype == np.uint8
    assert masks.shape == (21, size, size)
    assert set(np.unique(masks)) == {0, 1}
    share = masks.mean((1, 2))
    assert np.all((share > 0.002) & (share < 0.9))


def test_masks_cover_what_differs_from_skin() -> None:
    style = Style(classes=CLASSES, size=64, seed=3, overlap=0.0, hair=0.0, noise=0.0)
    images, masks = render([DrawnLesion(0, CLASSES.index("nv"), i, 1) for i in range(40)], style)
    green = images[..., 1].astype(float)
    within = (green * masks).sum((1, 2)) / masks.sum((1, 2))
    centre = np.zeros((64, 64), bool)
    centre[8:56, 8:56] = True  # without dark corners
    outside = np.array([g[(m == 0) & centre].mean() for g, m in zip(green, masks, strict=True)])
    assert np.all(within < outside - 15)


def test_classes_follow_the_abcd_rule() -> None:
    """Asymmetry, border, colours and diameter of melanoma exceed those of naevi."""
    style = Style(classes=CLASSES, size=64, seed=5, overlap=1.0, hair=0.0, noise=0.0)
    measured = {}
    for name in ("nv", "mel"):
        lesions = [DrawnLesion(0, CLASSES.index(name), i, 1) for i in range(150)]
        images, masks = render(lesions, style)
        area = masks.mean((1, 2))
        colours = np.array(
            [i[m == 1].astype(float).std(0).mean() for i, m in zip(images, masks, strict=True)]
        )
        rim = np.abs(np.diff(masks.astype(int), axis=1)).sum((1, 2))
        rim += np.abs(np.diff(masks.astype(int), axis=2)).sum((1, 2))
        roughness = rim / np.sqrt(masks.sum((1, 2)))
        measured[name] = [area.mean(), colours.mean(), roughness.mean()]
    assert np.all(np.array(measured["mel"]) > np.array(measured["nv"]))


def test_turns_are_unit_vectors_all_around() -> None:
    c, s = _unit(np.linspace(0, 1, 1001)[:-1])
    np.testing.assert_allclose(c * c + s * s, 1, atol=1e-12)
    angles = np.sort(np.arctan2(s, c))
    assert np.diff(angles).max() < 0.01


def test_centres_name_every_trait_of_every_class() -> None:
    from edgeward.data.phantom import TRAITS

    assert {len(row) for row in CENTRES.values()} == {len(TRAITS)}


def test_class_counts_are_exact_and_never_empty() -> None:
    weights = np.array([327, 514, 1099, 115, 1113, 6705, 142.0])
    for n in (7, 8, 100, 3000, 10015):
        counts = class_counts(n, weights)
        assert counts.sum() == n
        assert counts.min() >= 1
    np.testing.assert_array_equal(class_counts(10015, weights), weights)


def test_plan_gives_each_split_its_images() -> None:
    source = PhantomSource(
        kind="phantom", n_train=200, n_val=50, n_test=400, prevalence={"nv": 9, "mel": 1},
        views=[0.5, 0.5], overlap=1, hair=0, noise=1,
    )  # fmt: skip
    lesions = plan(source, 4)
    per_split = np.bincount([x.split for x in lesions], [x.views for x in lesions])
    np.testing.assert_array_equal(per_split, [200, 50, 400])
    views = np.array([x.views for x in lesions])
    assert set(views) == {1, 2}
    assert abs(views.mean() - 1.5) < 0.1
    assert len({(x.split, x.label, x.number) for x in lesions}) == len(lesions)
    more = plan(source.model_copy(update={"n_train": 300}), 4)
    test = {x for x in lesions if x.split == 2}
    assert test == {x for x in more if x.split == 2}
