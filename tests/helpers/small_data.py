"""Tiny prepared data sets, written by hand."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.data.store import SPLITS, VOLUME_COLUMNS
from edgeward.records.card import CalibrationSet, Card, Leakage
from edgeward.records.recipe import ModelMeta

CLASSES = ["common", "middling", "rare"]


def card(**facts: Any) -> Card:
    """Return a card in which what no test looks at is made up."""
    return Card(
        **{
            "source": "made up",
            "licence": "none",
            "citation": "none",
            "rare_rule": "named",
            "input_range": (0, 255),
            "groups": {},
            "seed": 0,
            "leakage": Leakage(shared_groups=0, identical=0, near_identical=0, findings=[]),
            "calibration": CalibrationSet(n=1),
            "hashes": {"images.npy": "0" * 64, "calibration.csv": "1" * 64},
            **facts,
        }
    )


def meta(**facts: Any) -> ModelMeta:
    """Return what goes with weights, in which what no test looks at is made up."""
    return ModelMeta(
        **{
            "model": {"name": "tiny", "architecture": "dscnn", "dense": False},
            "task": "multiclass",
            "num_classes": 3,
            "n_labels": 3,
            "in_chans": 3,
            "image_size": [32, 32],
            "mean": [0.5] * 3,
            "std": [0.2] * 3,
            "classes": CLASSES,
            "logit_shift": [0.0] * 3,
            "data": "small",
            "seed": 0,
            **facts,
        }
    )


def write_small_prepared(root: Path, n: int = 240, size: int = 32, seed: int = 0) -> Path:
    """Write a tiny prepared data set whose classes differ in colour; return its folder."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    labels = rng.choice(3, size=n, p=[0.6, 0.3, 0.1]).astype(np.int64)
    groups = np.arange(n) // 2
    labels = labels[groups * 2 % n]
    tint = np.array([[200, 120, 100], [120, 200, 100], [100, 120, 200]])
    images = tint[labels][:, None, None, :] + rng.normal(0, 40, (n, size, size, 3))
    images = np.clip(images, 0, 255).astype(np.uint8)
    splits = np.where(groups % 4 < 2, "train", np.where(groups % 4 == 2, "val", "test"))
    np.save(root / "images.npy", images)
    np.save(root / "labels.npy", labels)
    with (root / "split.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["index", "id", "label", "class", "group", "split"])
        for i in range(n):
            writer.writerow(
                [i, f"im{i}", labels[i], CLASSES[labels[i]], f"g{groups[i]}", splits[i]]
            )
    train = np.flatnonzero(splits == "train")
    with (root / "calibration.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["index"], *[[i] for i in train[:32]]])
    prior = np.bincount(labels[train], minlength=3) / len(train)
    counts = {
        s: dict(zip(CLASSES, np.bincount(labels[splits == s], minlength=3).tolist(), strict=True))
        for s in SPLITS
    }
    card(
        name="small",
        task="multiclass",
        classes=CLASSES,
        n_labels=3,
        rare_classes=["rare"],
        n_images=n,
        image_shape=[size, size, 3],
        counts=counts,
        train_prior=prior,
        channel_mean=images[train].mean((0, 1, 2)) / 255,
        channel_std=images[train].std((0, 1, 2)) / 255,
    ).write(root / "card.json")
    return root


def write_small_segmentation(
    root: Path, spatial_dims: int, n: int = 48, size: int = 32, seed: int = 0
) -> Path:
    """Write a tiny segmentation set: a bright ball (organ), in two of three cases with a dark spot (spot).

    Volumes differ in shape and spacing. Two cases are one group.
    """
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    channels = 3 if spatial_dims == 2 else 1
    images, masks, shapes = [], [], []
    for i in range(n):
        shape = (size,) * 2 if spatial_dims == 2 else tuple(rng.integers(size // 2, size, 3))
        places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
        centre = rng.uniform(0.4, 0.6, spatial_dims) * shape
        away = np.sqrt(((places - centre.reshape(-1, *[1] * spatial_dims)) ** 2).sum(0))
        mask = (away < rng.uniform(0.25, 0.35) * min(shape)).astype(np.uint8)
        if i % 3:
            mask[away < 0.1 * min(shape)] = 2
        image = np.array([90, 180, 10])[mask] + rng.normal(0, 10, (channels, *shape))
        images.append(np.clip(image, 0, 255))
        masks.append(mask)
        shapes.append((channels, *shape))
    if spatial_dims == 2:
        stacked = np.moveaxis(np.stack(images), 1, -1).astype(np.uint8)
        np.save(root / "images.npy", stacked)
        np.save(root / "masks.npy", np.stack(masks))
    else:
        np.save(root / "images.npy", np.concatenate([v.astype(np.float16).ravel() for v in images]))
        np.save(root / "masks.npy", np.concatenate([m.ravel() for m in masks]))
        _write_volumes(root / "volumes.csv", shapes)
    labels = (np.arange(n) % 3 > 0).astype(np.int64)
    np.save(root / "labels.npy", labels)
    groups = np.arange(n) // 2
    splits = np.where(groups % 4 < 2, "train", np.where(groups % 4 == 2, "val", "test"))
    rows = [[i, f"im{i}", labels[i], labels[i], f"g{groups[i]:03d}", splits[i]] for i in range(n)]
    with (root / "split.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["index", "id", "label", "class", "group", "split"], *rows])
    train = np.flatnonzero(splits == "train")
    with (root / "calibration.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["index"], *[[i] for i in train[:8]]])
    card(
        name=f"small{spatial_dims}d",
        task="segmentation",
        spatial_dims=spatial_dims,
        classes=["organ", "spot"],
        n_labels=3,
        rare_classes=["spot"],
        n_images=n,
        image_shape=[*[size] * spatial_dims, channels],
        counts={},
        train_prior=[0.7, 0.25, 0.05],
        channel_mean=[np.mean([v.mean() for v in images]) / 255] * channels,
        channel_std=[np.mean([v.std() for v in images]) / 255] * channels,
    ).write(root / "card.json")
    return root


def _write_volumes(path: Path, shapes: list[tuple[int, ...]]) -> None:
    """Write the table of volumes that lie one after the other, of spacing 1 x 1.5 x 2 mm."""
    sizes = np.array([np.prod(shape) for shape in shapes])
    voxels = np.array([np.prod(shape[1:]) for shape in shapes])
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(VOLUME_COLUMNS)
        affine = "2 0 0 0 0 1.5 0 0 0 0 1 0"
        for i, shape in enumerate(shapes):
            at = int(sizes[:i].sum()), int(voxels[:i].sum())
            stored = " ".join(map(str, shape[:0:-1]))
            writer.writerow([i, *at, *shape, 1.0, 1.5, 2.0, affine, stored, affine])
