"""The facts of a prepared set, for card.json."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeward.core.errors import unknown
from edgeward.data.config import DataConfig, RareByName
from edgeward.data.listing import Listing
from edgeward.data.store import SPLITS
from edgeward.data.stream import NAMED, Read
from edgeward.data.volumes.listing import VolumeListing


def _rare(cfg: DataConfig, classes: list[str], share: np.ndarray) -> tuple[list[str], str]:
    """Return the rare classes, by their share of the training cases, and the rule, in words."""
    if isinstance(cfg.rare, RareByName):
        for name in cfg.rare.classes:
            if name not in classes:
                raise unknown("class", name, classes, "data.rare.classes (config/data/)")
        return [c for c in classes if c in cfg.rare.classes], "named in the configuration"
    rare = [c for c, s in zip(classes, share, strict=True) if s < cfg.rare.below]
    what = "train" if cfg.task != "segmentation" else "the training cases hold it"
    return rare, f"less than {cfg.rare.below:g} of {what}"


def facts(
    cfg: DataConfig,
    listing: Listing | VolumeListing,
    read: Read,
    labels: np.ndarray,
    names: list[str],
    groups: list[str],
    splits: np.ndarray,
) -> dict[str, Any]:
    """Collect the facts that follow from labels, splits and sums.

    For segmentation `counts` are cases whose mask holds the class, `pixels` are pixels, and
    `train_prior` is the share of the pixels of every label, background first. Channel statistics are of train, all pixels of a channel together, scale 0-1.
    """
    train = splits == "train"
    segments = cfg.task == "segmentation"
    if segments:
        classes, found = listing.foreground, read.pixels[:, 1:] > 0  # (n, c): which case holds what
    else:
        classes, found = names, np.eye(len(names), dtype=bool)[labels]
    rare, rule = _rare(cfg, classes, found[train].mean(0))
    pixels = read.pixels[train].sum()
    mean = read.sums[train].sum(0) / pixels
    variance = read.squares[train].sum(0) / pixels - mean**2
    of_group = np.array(groups)
    card = {
        "name": cfg.name,
        "task": cfg.task,
        "spatial_dims": 2 if cfg.volume is None else 3,
        "source": listing.source,
        "licence": listing.licence,
        "citation": listing.citation,
        "classes": classes,
        "n_labels": len(classes) + segments,
        "rare_classes": rare,
        "rare_rule": rule,
        "n_images": len(labels),
        "image_shape": read.shape,
        "input_range": [0, 255],
        "counts": _table(found, classes, splits),
        "groups": {split: len(set(of_group[splits == split])) for split in SPLITS},
        "train_prior": found[train].mean(0),
        "channel_mean": mean / 255,
        "channel_std": np.sqrt(np.maximum(variance, 0)) / 255,
        "seed": cfg.seed,
        "invalid": {"n": len(read.invalid), "first": [list(i) for i in read.invalid[:NAMED]]},
        **listing.notes,
    }
    if segments:
        card |= {
            "train_prior": read.pixels[train].sum(0) / pixels,
            "pixels": _table(read.pixels, ["background", *classes], splits),
            "empty": {split: int((~found[splits == split].any(1)).sum()) for split in SPLITS},
            "strata": _table(np.eye(len(names), dtype=int)[labels], names, splits),
        }
    return card | read.notes


def _table(values: np.ndarray, names: list[str], splits: np.ndarray) -> dict[str, dict[str, int]]:
    """Sum (n, c) over the cases of each split: {split: {name: sum}}."""
    return {
        split: dict(zip(names, values[splits == split].sum(0).tolist(), strict=True))
        for split in SPLITS
    }
