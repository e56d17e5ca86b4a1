"""Segmentation in training: loss, deep supervision, patches, augmentation with masks, Dice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceCELoss
from monai.metrics import compute_dice
from torch import nn

from edgeward.data.store import Prepared
from edgeward.tasks.augment import augment_with_masks
from edgeward.tasks.config import AugmentConfig, PatchConfig
from edgeward.tasks.patches import corner, crop, draw
from edgeward.tasks.segmentation.config import DiceLossConfig
from edgeward.tasks.segmentation.losses import make_dense_loss, outputs_of, supervise
from edgeward.tasks.segmentation.train import dice_metrics, overlap


def dice_loss(**changes: Any) -> DiceLossConfig:
    values = {
        "name": "dice_cross_entropy",
        "dice_weight": 1.0,
        "cross_entropy_weight": 1.0,
        "dice_sums": "image",
        "deep_supervision": 0.5,
    }
    return DiceLossConfig(**values | changes)


@pytest.mark.parametrize("shape", [(3, 20, 17), (2, 9, 12, 8)])
@pytest.mark.parametrize("sums", ["image", "batch"])
def test_loss_equals_monai(shape: tuple[int, ...], sums: str) -> None:
    torch.manual_seed(0)
    logits = 3 * torch.randn(shape[0], 4, *shape[1:])
    labels = torch.randint(4, shape)
    labels[0] = 0  # an image without foreground
    ours = make_dense_loss(dice_loss(dice_weight=0.7, cross_entropy_weight=1.3, dice_sums=sums))
    theirs = DiceCELoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        batch=sums == "batch",
        lambda_dice=0.7,
        lambda_ce=1.3,
    )
    torch.testing.assert_close(ours(logits, labels), theirs(logits, labels[:, None]))


def test_deep_supervision_weighs_levels_and_shrinks_labels() -> None:
    labels = torch.randint(2, (2, 8, 8))
    seen: list[tuple[int, ...]] = []

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(target.shape))
        assert target.shape[1:] == logits.shape[2:]
        return logits.mean()

    outputs = [torch.full((2, 2, side, side), value) for side, value in ((8, 1.0), (4, 5.0))]
    found = supervise(loss, outputs, labels, 0.5)
    assert float(found) == pytest.approx((1 + 0.5 * 5) / 1.5)
    assert seen == [(2, 8, 8), (2, 4, 4)]
    assert float(supervise(loss, outputs, labels, 0.0)) == 1.0
    with pytest.raises(AssertionError):  # labels that do not shrink would not fit
        loss(outputs[1], labels)


def test_train_outputs_are_used_where_there_are_any() -> None:
    class Supervised(nn.Module):
        def train_outputs(self, image: torch.Tensor) -> list[torch.Tensor]:
            return [image, image[..., ::2]]

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image

    image = torch.zeros(1, 1, 4, 4)
    assert [o.shape[-1] for o in outputs_of(Supervised(), image)] == [4, 2]
    assert len(outputs_of(nn.Identity(), image)) == 1


def augmentation(**changes: Any) -> AugmentConfig:
    off = dict.fromkeys(AugmentConfig.model_fields, 0.0) | {"flips": False, "rotate90": False}
    return AugmentConfig(**off | changes)


@pytest.mark.parametrize("shape", [(6, 24, 24), (6, 12, 16, 16)])
def test_masks_move_with_their_images(shape: tuple[int, ...]) -> None:
    rng = torch.Generator().manual_seed(5)
    masks = torch.zeros(shape, dtype=torch.uint8)
    masks[(slice(None), *[slice(2, 7)] * (len(shape) - 1))] = 1
    masks[(slice(None), slice(4, 8), *[slice(6, 11)] * (len(shape) - 2))] = 2
    images = masks[:, None].float() * 100
    exact = augmentation(flips=True, rotate90=True)
    moved, moved_masks = augment_with_masks(images, masks, exact, rng)
    assert moved_masks.dtype == torch.uint8
    torch.testing.assert_close(moved[:, 0], moved_masks.float() * 100, atol=0.02, rtol=0)
    assert len({tuple(m.flatten().tolist()) for m in moved_masks}) > 2
    free = augmentation(flips=True, degrees=30.0, scale=0.2, translate=0.05)
    moved, moved_masks = augment_with_masks(images, masks, free, rng)
    inside = (moved[:, 0] % 100).minimum(100 - moved[:, 0] % 100) < 1e-3  # no blend of two labels
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(
        moved[:, 0][inside], moved_masks.float()[inside] * 100, atol=0.1, rtol=0
    )
    assert not torch.equal(moved_masks, masks)


def test_a_turned_ball_is_a_ball_in_a_volume_of_unequal_sides() -> None:
    places = torch.stack(torch.meshgrid(*map(torch.arange, (20, 36, 28)), indexing="ij")).float()
    middle = torch.tensor([9.5, 17.5, 13.5])[:, None, None, None]
    away = ((places - middle) ** 2).sum(0)
    ball = (away < 49).to(torch.uint8)
    near = away < 90  # beyond, the reflected borders begin
    masks = ball.expand(8, -1, -1, -1)
    generator = torch.Generator().manual_seed(0)
    _, moved = augment_with_masks(
        masks[:, None].float(), masks, augmentation(degrees=60.0, rotate90=True), generator
    )
    moved, masks = moved[:, near], masks[:, near]
    dice = 2 * (moved & masks).sum(1) / (moved.sum(1) + masks.sum(1))
    assert dice.min() > 0.93


@settings(max_examples=60)
@given(
    st.tuples(*[st.integers(3, 14)] * 3),
    st.tuples(*[st.integers(2, 10)] * 3),
    st.integers(0, 10_000),
)
def test_patches_lie_inside_and_hold_the_foreground(
    shape: tuple[int, ...], size: tuple[int, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, dtype=np.uint8)
    lesion = tuple(int(rng.integers(side)) for side in shape)
    mask[lesion] = 1
    at = corner(mask, size, rng, foreground=True)
    patch = crop(mask, at, size)
    assert patch.shape == size
    assert patch.sum() == 1
    for a, side, length in zip(at, size, shape, strict=True):
        assert 0 <= a <= max(0, length - side)
    image = crop(np.ones((2, *shape), dtype=np.float32), at, size)
    assert image.shape == (2, *size)
    assert image.sum() == 2 * np.prod(np.minimum(shape, size))


def test_rare_labels_are_drawn_as_often_as_frequent_ones() -> None:
    mask = np.ones((40, 40, 40), dtype=np.uint8)
    mask[35, 35, 35] = 2
    rng = np.random.default_rng(0)
    hits = [
        (crop(mask, corner(mask, (8, 8, 8), rng, foreground=True), (8, 8, 8)) == 2).any()
        for _ in range(200)
    ]
    assert 0.4 < np.mean(hits) < 0.6
    assert corner(np.zeros((9, 9), np.uint8), (4, 4), rng, foreground=True)  # nothing to find


def test_patches_depend_on_the_key_alone(small_volumes: Prepared) -> None:
    cfg = PatchConfig(size=(16, 16, 16), per_case=2, foreground=0.5, overlap=0.25, windows=2)
    first = draw(small_volumes, np.array([3, 5, 8]), cfg, 7)
    again = draw(small_volumes, np.array([3, 5, 8]), cfg, 7)
    other = draw(small_volumes, np.array([3, 5, 8]), cfg, 8)
    assert first[0].shape == (3, 1, 16, 16, 16)
    assert first[0].dtype == np.float32
    assert first[1].dtype == np.uint8
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])


def test_dice_equals_monai_and_leaves_out_what_is_not_there() -> None:
    rng = np.random.default_rng(0)
    masks, said = rng.integers(0, 4, (2, 5, 12, 10))
    masks[0][masks[0] == 2] = 0  # class 2 is missing from the first image
    masks[masks == 3] = 0  # and class 3 from all
    counts = overlap(said, masks, 4)
    hot, hot_masks = (
        torch.nn.functional.one_hot(torch.from_numpy(m), 4).movedim(-1, 1) for m in (said, masks)
    )
    theirs = compute_dice(hot, hot_masks, include_background=False, ignore_empty=True).numpy()
    found = dice_metrics(counts, ["a", "b", "c"])
    assert found["val_dice_a"] == pytest.approx(np.nanmean(theirs[:, 0]))
    assert found["val_dice_b"] == pytest.approx(np.nanmean(theirs[:, 1]))
    assert np.isnan(found["val_dice_c"])
    assert found["val_dice"] == pytest.approx((found["val_dice_a"] + found["val_dice_b"]) / 2)
    assert np.isnan(dice_metrics(counts * 0, ["a", "b", "c"])["val_dice"])
