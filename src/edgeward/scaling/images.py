"""A prepared data set of random images: what the stages need to export an untrained network."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from edgeward.core.io import sha256, write_json
from edgeward.data.store import Prepared, open_prepared
from edgeward.scaling.config import ScalingConfig


def random_images(root: Path, cfg: ScalingConfig, size: int) -> Prepared:
    """Write and open `cfg.images` images, which are at once the validation split and for calibration.

    An image is one random colour and uniform noise around it, so that images differ by more than
    the noise, which pooling averages out.

    Parameters
    ----------
    size : side of the images in pixels.
    """
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([cfg.seed, size])
    n = cfg.images
    images = np.empty((n, size, size, cfg.channels), np.uint8)
    for image in images:
        colour = rng.integers(48, 208, cfg.channels)
        image[:] = colour + rng.integers(-48, 48, image.shape)
    labels = rng.integers(0, cfg.classes, n)
    classes = [f"class {k}" for k in range(cfg.classes)]
    np.save(root / "images.npy", images)
    np.save(root / "labels.npy", labels)
    with (root / "split.csv").open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["index", "id", "label", "class", "group", "split"])
        for i, label in enumerate(labels):
            rows.writerow([i, f"random {i}", label, classes[label], i, "val"])
    with (root / "calibration.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["index"], *[[i] for i in range(n)]])
    scaled = images / 255
    write_json(
        root / "card.json",
        {
            "name": "random",
            "task": "classification",
            "classes": classes,
            "rare_classes": [],
            "n_images": n,
            "image_shape": [size, size, cfg.channels],
            "input_range": [0, 255],
            "train_prior": np.full(cfg.classes, 1 / cfg.classes),
            "channel_mean": scaled.mean((0, 1, 2)),
            "channel_std": scaled.std((0, 1, 2)),
            "hashes": {
                name: sha256(root / name)
                for name in ("images.npy", "labels.npy", "split.csv", "calibration.csv")
            },
        },
    )
    return open_prepared(root)
