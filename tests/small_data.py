"""A tiny prepared data set, written by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from edgeward.core.io import write_json

CLASSES = ["common", "middling", "rare"]


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
    write_json(
        root / "card.json",
        {
            "name": "small",
            "task": "classification",
            "classes": CLASSES,
            "rare_classes": ["rare"],
            "n_images": n,
            "image_shape": [size, size, 3],
            "input_range": [0, 255],
            "train_prior": prior,
            "channel_mean": images[train].mean((0, 1, 2)) / 255,
            "channel_std": images[train].std((0, 1, 2)) / 255,
            "hashes": {"images.npy": "0" * 64, "calibration.csv": "1" * 64},
        },
    )
    return root
