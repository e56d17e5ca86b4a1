"""Batches, augmentation and validation metrics."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import naming
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score

from edgeward.core.errors import UserError
from edgeward.data.store import Prepared
from edgeward.tasks.augment import augment
from edgeward.tasks.batches import epoch_batches, read, split_batches, stream, to_float
from edgeward.tasks.config import AugmentConfig
from edgeward.tasks.multiclass.train import macro_auc, validation_metrics

NOTHING: dict[str, Any] = {
    "flips": False,
    "rotate90": False,
    "degrees": 0.0,
    "scale": 0.0,
    "translate": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "colour": 0.0,
}


def changed(images: torch.Tensor, seed: int = 0, **changes: Any) -> torch.Tensor:
    cfg = AugmentConfig(**{**NOTHING, **changes})
    return augment(images, cfg, torch.Generator().manual_seed(seed))


def noise(n: int, h: int = 12, w: int = 12, c: int = 3) -> torch.Tensor:
    return torch.rand(n, c, h, w, generator=torch.Generator().manual_seed(1)) * 255


def test_no_augmentation_changes_nothing() -> None:
    assert torch.equal(changed(noise(4)), noise(4))


def test_flips_and_quarter_turns_are_exactly_the_eight_symmetries() -> None:
    images = noise(200)
    got = changed(images, flips=True, rotate90=True)
    seen = set()
    for before, after in zip(images, got, strict=True):
        poses = [torch.rot90(x, k, (1, 2)) for x in (before, before.flip(2)) for k in range(4)]
        errors = [float((pose - after).abs().max()) for pose in poses]
        assert min(errors) < 0.05
        seen.add(int(np.argmin(errors)))
    assert seen == set(range(8))


def test_images_that_are_not_square_keep_their_content() -> None:
    images = noise(50, h=8, w=14)
    got = changed(images, flips=True, rotate90=True)
    for before, after in zip(images, got, strict=True):
        poses = [before, before.flip(1), before.flip(2), before.flip(1, 2)]
        assert min(float((pose - after).abs().max()) for pose in poses) < 0.05


def test_rotation_is_by_the_angle_also_off_square() -> None:
    """A disc off-centre moves on a circle about the centre, in pixels, whatever the aspect."""
    h, w = 41, 81
    y, x = torch.meshgrid(torch.arange(h) - 20.0, torch.arange(w) - 40.0, indexing="ij")
    disc = (255.0 * torch.exp(-((x - 12) ** 2 + y**2) / 8)).expand(64, 1, h, w)
    got = changed(disc, degrees=90.0)[:, 0] * (torch.hypot(x, y) < 18)  # beyond: reflections
    mass = got.sum(dim=(1, 2))
    cx, cy = (got * x).sum(dim=(1, 2)) / mass, (got * y).sum(dim=(1, 2)) / mass
    torch.testing.assert_close(torch.hypot(cx, cy), torch.full((64,), 12.0), atol=0.3, rtol=0)
    angles = torch.rad2deg(torch.atan2(cy, cx))
    assert angles.min() < -60
    assert angles.max() > 60
    assert angles.abs().max() < 91


def test_tone_stays_in_range_and_differs_between_images() -> None:
    flat = torch.full((16, 3, 4, 4), 128.0)
    got = changed(flat, brightness=0.2)
    gains = got[:, 0, 0, 0] / 128
    assert got.std(dim=(1, 2, 3)).max() < 1e-3
    assert 0.8 <= gains.min() < 0.95
    assert 1.05 < gains.max() <= 1.2
    coloured = changed(flat, colour=0.2)[:, :, 0, 0]
    assert (coloured.std(dim=1) > 1).sum() > 10
    extreme = changed(noise(16), brightness=0.9, contrast=0.9, colour=0.5)
    assert extreme.min() >= 0
    assert extreme.max() <= 255


def test_contrast_keeps_the_mean() -> None:
    images = noise(8) * 0.2 + 100
    got = changed(images, contrast=0.3)
    means = (1, 2, 3)
    torch.testing.assert_close(got.mean(dim=means), images.mean(dim=means))
    ratio = got.std(dim=means) / images.std(dim=means)
    assert ratio.min() >= 0.69
    assert ratio.max() <= 1.31
    assert ratio.max() - ratio.min() > 0.1


@given(seed=st.integers(0, 2**62))
@settings(max_examples=20, deadline=None)
def test_augmentation_is_a_function_of_the_seed(seed: int) -> None:
    everything = {"flips": True, "rotate90": True, "degrees": 30.0, "scale": 0.2, "colour": 0.1}
    first, second = (changed(noise(3), seed, **everything) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (3, 3, 12, 12)
    assert not torch.equal(first, changed(noise(3), seed + 1, **everything))


def test_streams_differ_by_purpose_and_fit_a_generator() -> None:
    keys = {stream(s, e, p) for s in range(5) for e in range(20) for p in (1, 2)}
    assert len(keys) == 200
    assert all(0 <= key < 2**63 for key in keys)


def test_an_epoch_is_a_permutation_of_train_that_depends_on_seed_and_epoch(
    small_prepared: Prepared,
) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        batches = epoch_batches(small_prepared, 8, seed=seed, epoch=epoch)
        assert {len(batch) for batch in batches} == {8}
        return np.concatenate(batches).tolist()

    train = small_prepared.indices("train")
    assert len(set(order(0, 0))) == len(train) // 8 * 8
    assert set(order(0, 0)) <= set(train.tolist())
    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)


def test_balanced_sampling_draws_every_class_equally(small_prepared: Prepared) -> None:
    drawn = np.concatenate(
        [
            batch
            for epoch in range(60)
            for batch in epoch_batches(
                small_prepared, 10, seed=0, epoch=epoch, sampling="class_balanced"
            )
        ]
    )
    share = np.bincount(small_prepared.labels[drawn], minlength=3) / len(drawn)
    error = math.sqrt(2 / 9 / len(drawn))
    np.testing.assert_allclose(share, 1 / 3, atol=5 * error)


def test_train_set_smaller_than_a_batch_is_one_batch(small_prepared: Prepared) -> None:
    train = small_prepared.indices("train")
    (only,) = epoch_batches(small_prepared, 10_000, seed=0, epoch=0)
    assert sorted(only) == train.tolist()


def test_empty_validation_is_named(small_prepared: Prepared) -> None:
    nothing = dataclasses.replace(
        small_prepared, splits=np.where(small_prepared.splits == "val", "test", "train")
    )
    with pytest.raises(UserError, match=naming("'val'")):
        split_batches(nothing, "val", 8)


def test_reading_keeps_the_order_and_the_memory_map(small_prepared: Prepared) -> None:
    indices = np.array([7, 3, 200, 3])
    images, labels = read(small_prepared, indices)
    assert isinstance(small_prepared.images, np.memmap)
    stored = np.asarray(small_prepared.images)[indices]
    assert np.array_equal(images.numpy(), np.moveaxis(stored, -1, 1))
    assert labels.tolist() == small_prepared.labels[indices].tolist()
    floats = to_float(images, torch.channels_last)
    assert floats.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(floats[1, :, 4, 5], images[1, :, 4, 5].float())


def sklearn_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean([roc_auc_score(labels == c, s) for c, s in enumerate(scores.T)]))


@given(
    st.integers(2, 5).flatmap(
        lambda c: st.tuples(
            st.just(c), st.lists(st.integers(0, c - 1), min_size=c + 2, max_size=60)
        )
    ),
    st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_validation_metrics_agree_with_scikit_learn(case: tuple[int, list[int]], seed: int) -> None:
    classes, drawn = case
    labels = np.array([*range(classes), *drawn])
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (len(labels), classes))
    shift = rng.normal(0, 1, classes)
    got = validation_metrics(logits, labels, shift, rare=[classes - 1])
    p = np.exp(logits + shift)
    p /= p.sum(axis=1, keepdims=True)
    assert got["val_auc"] == pytest.approx(sklearn_auc(p, labels))
    tied = logits.round()
    assert macro_auc(tied, labels) == pytest.approx(sklearn_auc(tied, labels))
    assert got["val_loss"] == pytest.approx(log_loss(labels, p, labels=range(classes)), rel=1e-6)
    decisions = logits.argmax(axis=1)
    assert got["val_balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, decisions))
    last = labels == classes - 1
    assert got["val_rare_recall"] == pytest.approx((decisions[last] == classes - 1).mean())


def test_auc_of_ties_and_of_absent_classes() -> None:
    labels = np.array([0, 0, 1, 1])
    assert macro_auc(np.zeros((4, 3)), labels) == 0.5
    scores = np.array([[0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.4, 0.6, 0.0], [0.1, 0.9, 0.0]])
    assert macro_auc(scores, labels) == pytest.approx(0.875)
    assert math.isnan(macro_auc(scores, np.zeros(4, dtype=int)))
