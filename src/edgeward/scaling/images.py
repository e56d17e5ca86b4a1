"""A prepared data set of random images: what the stages need to export an untrained network."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from edgeward.core.io import sha256
from edgeward.data.store import VOLUME_COLUMNS, Prepared, open_prepared
from edgeward.records.card import CalibrationSet, Card, Leakage
from edgeward.scaling.config import ScalingConfig
from edgeward.tasks.base import Task


def random_images(root: Path, cfg: ScalingConfig, size: int, task: Task) -> Prepared:
    """Write and open `cfg.images` images, which are at once the validation split and for calibration.

    An image is one random colour and uniform noise around it, so that images differ by more than
    the noise, which pooling averages out.

    Parameters
    ----------
    size : side of the square images or cubes, pixels.
    task : that the network is for; masks are empty.
    """
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([cfg.seed, size])
    n, sides = cfg.images, (size,) * cfg.spatial_dims
    images = np.empty((n, *sides, cfg.channels), np.uint8)
    for image in images:
        colour = rng.integers(48, 208, cfg.channels)
        image[:] = colour + rng.integers(-48, 48, image.shape)
    labels = rng.integers(0, cfg.classes, n)
    classes = [f"class {k}" for k in range(cfg.classes)]
    if cfg.spatial_dims == 2:
        np.save(root / "images.npy", images)
    else:
        np.save(root / "images.npy", np.moveaxis(images, -1, 1).ravel().astype(np.float16))
        _write_volumes(root / "volumes.csv", n, (cfg.channels, *sides))
    if task.dense:
        masks = np.zeros((n, *sides), np.uint8)
        np.save(root / "masks.npy", masks if cfg.spatial_dims == 2 else masks.ravel())
    np.save(root / "labels.npy", labels)
    with (root / "split.csv").open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["index", "id", "label", "class", "group", "split"])
        for i, label in enumerate(labels):
            rows.writerow([i, f"random {i}", label, classes[label], i, "val"])
    with (root / "calibration.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["index"], *[[i] for i in range(n)]])
    scaled, over = images / 255, tuple(range(images.ndim - 1))
    files = ("images.npy", "labels.npy", "split.csv", "calibration.csv")
    Card(
        name="random",
        task=task.name,
        spatial_dims=cfg.spatial_dims,
        source="random numbers",
        licence="none",
        citation="none",
        classes=classes,
        n_labels=cfg.classes + task.dense,
        rare_classes=[],
        rare_rule="none",
        n_images=n,
        image_shape=[*sides, cfg.channels],
        input_range=(0, 255),
        counts={"val": dict.fromkeys(classes, 0)},
        groups={"val": n},
        train_prior=np.full(cfg.classes, 1 / cfg.classes),
        channel_mean=scaled.mean(over),
        channel_std=scaled.std(over),
        seed=cfg.seed,
        leakage=Leakage(shared_groups=0, identical=0, near_identical=0, findings=[]),
        calibration=CalibrationSet(n=n),
        hashes={name: sha256(root / name) for name in files},
    ).write(root / "card.json")
    return open_prepared(root)


def _write_volumes(path: Path, n: int, shape: tuple[int, ...]) -> None:
    """Write the table of equal volumes that lie one after the other, of voxels of 1 mm."""
    voxels = math.prod(shape[1:])
    identity = "1 0 0 0 0 1 0 0 0 0 1 0"
    with path.open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(VOLUME_COLUMNS)
        for i in range(n):
            at = i * shape[0] * voxels, i * voxels
            stored = " ".join(map(str, shape[:0:-1]))
            rows.writerow([i, *at, *shape, 1.0, 1.0, 1.0, identity, stored, identity])
