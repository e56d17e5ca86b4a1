"""The facts of a prepared set, for card.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeward.core.errors import unknown
from edgeward.data.audit import Signatures
from edgeward.data.config import DataConfig, RareByName
from edgeward.data.listing import Listing
from edgeward.data.store import SPLITS

NAMED = 20  # invalid images that an error and the card name


@dataclass
class Read:
    """What the one pass over the pixels leaves behind.

    Attributes
    ----------
    rows : int64 (n,), positions in the listing of the images that were read.
    seen : fingerprints of those images.
    sums, squares : int64 (n, c), sums over the pixels of value and squared value.
    invalid : (name, reason) of the images that were not.
    """

    rows: np.ndarray
    seen: Signatures
    sums: np.ndarray
    squares: np.ndarray
    invalid: list[tuple[str, str]]


def _rare(cfg: DataConfig, classes: list[str], prior: np.ndarray) -> tuple[list[str], str]:
    """Return the rare classes and the rule, in words."""
    if isinstance(cfg.rare, RareByName):
        for name in cfg.rare.classes:
            if name not in classes:
                raise unknown("class", name, classes, "data.rare.classes (config/data/)")
        return [c for c in classes if c in cfg.rare.classes], "named in the configuration"
    rare = [c for c, share in zip(classes, prior, strict=True) if share < cfg.rare.below]
    return rare, f"less than {cfg.rare.below:g} of train"


def facts(
    cfg: DataConfig,
    listing: Listing,
    read: Read,
    labels: np.ndarray,
    groups: list[str],
    splits: np.ndarray,
) -> dict[str, Any]:
    """Collect the facts that follow from labels, splits and sums.

    Channel statistics are of train, all pixels of a channel together, scale 0-1.
    """
    classes, train = listing.classes, splits == "train"
    prior = np.bincount(labels[train], minlength=len(classes)) / train.sum()
    rare, rule = _rare(cfg, classes, prior)
    pixels = int(train.sum()) * cfg.image_size**2
    mean = read.sums[train].sum(0) / pixels
    variance = read.squares[train].sum(0) / pixels - mean**2
    counts = {
        split: dict(
            zip(classes, np.bincount(labels[splits == split], minlength=len(classes)), strict=True)
        )
        for split in SPLITS
    }
    of_group = np.array(groups)
    return {
        "name": cfg.name,
        "task": "classification",
        "source": listing.source,
        "licence": listing.licence,
        "citation": listing.citation,
        "classes": classes,
        "rare_classes": rare,
        "rare_rule": rule,
        "n_images": len(labels),
        "image_shape": [cfg.image_size, cfg.image_size, listing.channels],
        "input_range": [0, 255],
        "counts": counts,
        "groups": {split: len(set(of_group[splits == split])) for split in SPLITS},
        "train_prior": prior,
        "channel_mean": mean / 255,
        "channel_std": np.sqrt(np.maximum(variance, 0)) / 255,
        "seed": cfg.seed,
        "invalid": {"n": len(read.invalid), "first": [list(i) for i in read.invalid[:NAMED]]},
        **listing.notes,
    }
