"""What is measured of one case, against MONAI, scikit-image and brute force."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from refusals import naming
from safety_cases import of_labels
from scipy import ndimage
from skimage.measure import label

from edgeward.core.errors import UserError
from edgeward.statistics.calibration import binned_ece, equal_width_bins
from edgeward.tasks.segmentation.cases import find_lesions, measure
from edgeward.tasks.segmentation.surfaces import near_boundary, surfaces
from edgeward.tasks.segmentation.tables import Tables, read_tables, write_tables

CASES = [((40, 33), (1.0, 1.0)), ((18, 25, 21), (3.0, 0.8, 1.4))]


def blobs(shape: tuple[int, ...], seed: int, labels: int = 3) -> np.ndarray:
    """Smooth random regions with labels 0, 1, .., uint8."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=shape), 2.0)
    edges = np.quantile(field, [0.6, 0.85, 1.0])[: labels - 1]
    return np.searchsorted(edges, field).astype(np.uint8)


def hot(mask: np.ndarray, labels: int = 3) -> torch.Tensor:
    """One-hot, (1, labels, *spatial), as MONAI wants it."""
    return torch.from_numpy((np.arange(labels).reshape(-1, *[1] * mask.ndim) == mask)[None])


@pytest.mark.parametrize(("shape", "spacing"), CASES)
@pytest.mark.parametrize("seed", range(4))
def test_a_case_equals_monai(shape: tuple[int, ...], spacing: tuple[float, ...], seed: int) -> None:
    truth, said = blobs(shape, seed), blobs(shape, seed + 100)
    said[: shape[0] // 2] = truth[: shape[0] // 2]
    logits = np.where(np.arange(3).reshape(-1, *[1] * len(shape)) == said, 3.0, 0.0)
    tables, cfg = Tables(), of_labels(tolerance=1.5)
    found = measure(tables, 7, logits.astype(np.float32), truth, spacing, np.zeros(3), cfg)
    np.testing.assert_array_equal(found, said)
    pair = hot(said), hot(truth)
    dice = compute_dice(*pair, include_background=False)[0]
    hd95 = compute_hausdorff_distance(
        *pair, include_background=False, percentile=95, spacing=spacing
    )[0]
    surface = compute_surface_dice(
        *pair, class_thresholds=[1.5, 1.5], include_background=False, spacing=spacing
    )[0]
    for k, row in enumerate(tables.overlaps):
        assert (row.index, row.class_number) == (7, k)
        assert row.dice == pytest.approx(float(dice[k]))
        assert row.iou == pytest.approx(row.dice / (2 - row.dice))
        assert row.hd95 == pytest.approx(float(hd95[k]), rel=1e-5)
        assert row.surface_dice == pytest.approx(float(surface[k]), rel=1e-5)
    both = np.array([[((truth == i) & (said == j)).sum() for j in range(3)] for i in range(3)])
    np.testing.assert_array_equal(tables.confusion, both)


@pytest.mark.parametrize("shape", [(40, 40), (16, 20, 18)])
def test_lesions_are_the_components_of_scikit_image(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    truth = ndimage.gaussian_filter(rng.normal(size=shape), 1.2) > 0.25
    said = truth & (rng.random(shape) < 0.5)
    said |= ndimage.gaussian_filter(rng.normal(size=shape), 1.2) > 0.4
    parts = label(truth, connectivity=truth.ndim)
    voxels, found, false = find_lesions(truth, said, 0.3)
    expected = [(parts == k + 1) for k in range(parts.max())]
    assert len(expected) > 3
    assert sorted(voxels) == sorted(part.sum() for part in expected)
    assert found.sum() == sum(said[part].mean() >= 0.3 for part in expected)
    assert 0 < found.sum() < len(found)
    said_parts = label(said, connectivity=truth.ndim)
    assert false == sum(not truth[said_parts == k + 1].any() for k in range(said_parts.max()))


def test_empty_masks_and_predictions_follow_the_convention() -> None:
    mask = np.zeros((12, 9), dtype=np.uint8)
    filled = mask.copy()
    filled[3:6, 3:6] = 1
    cfg, spacing = of_labels(), (2.0, 1.0)
    rows = []
    for truth, said in ((mask, mask), (mask, filled), (filled, mask)):
        tables = Tables()
        logits = np.stack([1.0 - said, said]).astype(np.float32)
        measure(tables, 0, logits, truth, spacing, np.zeros(2), cfg)
        rows.append(tables.overlaps[0])
    neither, false_alarm, missed = rows
    for row in (neither, false_alarm):
        assert all(np.isnan([row.dice, row.iou, row.hd95, row.surface_dice]))
        assert row.lesions == 0
    assert false_alarm.false_lesions == 1
    assert (missed.dice, missed.iou, missed.surface_dice, missed.found) == (0, 0, 0, 0)
    assert missed.hd95 == pytest.approx(np.hypot(24, 9))


@pytest.mark.parametrize(("shape", "spacing"), CASES)
def test_the_band_is_what_lies_near_another_label(
    shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    mask, width = blobs(shape, 3)[: shape[0] // 2], 2.1
    found = near_boundary(mask, width, spacing)
    places = np.argwhere(np.ones(mask.shape, bool)) * spacing
    flat = mask.ravel()
    for k in np.random.default_rng(0).choice(len(flat), 60, replace=False):
        away = np.linalg.norm(places[flat != flat[k]] - places[k], axis=1).min()
        assert found.ravel()[k] == (away <= width)
    assert not near_boundary(np.ones((5, 5), np.uint8), 3.0, (1.0, 1.0)).any()


def test_distance_is_in_mm_along_each_axis() -> None:
    truth, said = np.zeros((2, 9, 20, 20), dtype=bool)
    truth[2, 5:15, 5:15] = said[5, 5:15, 5:15] = True
    measured = surfaces(truth, said, (2.5, 1.0, 1.0))
    assert measured.hausdorff(95) == pytest.approx(7.5)
    assert measured.dice(7.4) == 0
    assert measured.dice(7.5) == 1


def test_calibration_sums_give_the_ece_of_all_voxels() -> None:
    rng = np.random.default_rng(0)
    truth = blobs((30, 30), 1)
    logits = rng.normal(0, 1.5, (3, 30, 30)).astype(np.float32)
    shift = np.array([0.3, -0.2, 0.0])
    tables, cfg = Tables(), of_labels(boundary=1.0)
    measure(tables, 0, logits, truth, (1.0, 1.0), shift, cfg)
    z = logits + shift[:, None, None]
    p = np.exp(z) / np.exp(z).sum(0)
    decision = logits.argmax(0)
    confidence = np.take_along_axis(p, decision[None], 0)[0]
    right = decision == truth
    for region, where in enumerate((np.ones_like(right), near_boundary(truth, 1.0, (1.0, 1.0)))):
        count, sums, correct = tables.sums[0][region].T
        assert count.sum() == where.sum()
        bins = equal_width_bins(confidence[where], 15)
        expected = binned_ece(confidence[where], right[where], bins)
        assert np.abs(sums - correct).sum() / count.sum() == pytest.approx(expected, abs=1e-6)


def test_tables_are_read_back_exactly(tmp_path: Path) -> None:
    tables, cfg = Tables(), of_labels()
    classes = ["left, upper", 'the "other"']
    for index in (4, 9):
        truth, said = blobs((20, 20), index), blobs((20, 20), index + 1)
        truth[truth == 2] = 0 if index == 9 else 2
        logits = np.random.default_rng(index).normal(0, 1, (3, 20, 20)) + 4 * np.eye(3)[said].T
        measure(
            tables, index, logits.astype(np.float32), truth, (1.0, 1.0), np.zeros(3),
            cfg,
        )  # fmt: skip
    write_tables(tmp_path, tables, classes)
    again = read_tables(tmp_path, [4, 9], classes)
    np.testing.assert_equal(
        [dataclasses.astuple(row) for row in again.overlaps],
        [dataclasses.astuple(row) for row in tables.overlaps],
    )
    assert again.lesions == tables.lesions
    np.testing.assert_array_equal(again.sums, tables.sums)
    for indices, names, words in (
        ([4, 8], classes, "of other cases"),
        ([4, 9, 11], classes, "another test set"),
        ([4, 9], ["left", "right"], "of other cases"),
    ):
        with pytest.raises(UserError, match=words):
            read_tables(tmp_path, indices, names)
    (tmp_path / "lesions.csv").unlink()
    with pytest.raises(UserError, match=naming("lesions.csv")):
        read_tables(tmp_path, [4, 9], classes)
