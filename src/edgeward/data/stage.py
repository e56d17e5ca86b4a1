"""Stage `prepare`: from a source to arrays that every later stage reads (`edgeward.data.store`)."""

from __future__ import annotations

import importlib
import logging
import time
from pathlib import Path

import numpy as np

from edgeward.core.errors import UserError
from edgeward.core.io import sha256, write_json
from edgeward.data.audit import leakage
from edgeward.data.card import facts
from edgeward.data.config import DataConfig, PythonSource
from edgeward.data.listing import Listing, Request
from edgeward.data.sources import folder, ham10000, medmnist, phantom
from edgeward.data.split import calibration_set, stratified_group_split
from edgeward.data.store import SPLITS
from edgeward.data.stream import named, stream
from edgeward.data.writer import publishing, write_csv

log = logging.getLogger(__name__)

SOURCES = {
    "phantom": phantom.open_source,
    "ham10000": ham10000.open_source,
    "medmnist": medmnist.open_source,
    "folder": folder.open_source,
}


def open_listing(cfg: DataConfig, data_root: Path | None) -> Listing:
    """Open the source that the config names."""
    source = cfg.source
    if not isinstance(source, PythonSource):
        request = Request(source, cfg.image_size, cfg.seed, data_root)
        return SOURCES[source.kind](request)
    try:
        opener = importlib.import_module(source.module).open_source
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"data.source.module '{source.module}' cannot be used ({error}): an importable module "
            "with a function open_source(request) is needed."
        ) from error
    return opener(Request(source.options, cfg.image_size, cfg.seed, data_root))


def _check_invalid(cfg: DataConfig, listing: Listing, invalid: list[tuple[str, str]]) -> None:
    """Refuse or report the images that cannot be used."""
    if not invalid:
        return
    message = f"{len(invalid)} images of {listing.source} cannot be used{named(invalid)}"
    if cfg.invalid == "refuse":
        raise UserError(
            f"{message}Put them right, or set data.invalid: skip (config/data/) to leave them out."
        )
    log.warning("%sleft out, as data.invalid is 'skip'", message)


def _sides(cfg: DataConfig, listing: Listing, rows: np.ndarray, groups: list[str]) -> np.ndarray:
    """Return the split of each image, str (n,); every class must be on every side."""
    labels = listing.labels[rows]
    if cfg.split.kind == "given":
        if listing.splits is None:
            raise UserError(
                f"data.split.kind is 'given', but {listing.source} gives its images no split. Set it "
                "to 'stratified' with shares train, val and test (config/data/)."
            )
        splits = listing.splits[rows]
    else:
        shares = (cfg.split.train, cfg.split.val, cfg.split.test)
        numbers = np.unique(groups, return_inverse=True)[1]
        splits = stratified_group_split(labels, numbers, shares, cfg.seed, listing.classes)
    for split in SPLITS:
        present = np.bincount(labels[splits == split], minlength=len(listing.classes))
        absent = [c for c, n in zip(listing.classes, present, strict=True) if n == 0]
        if absent:
            raise UserError(
                f"split '{split}' has no image of {', '.join(absent)}; every class is needed on "
                "every side. Add images, leave the class out, or set data.split.kind: stratified."
            )
    return splits


def _check_masks(cfg: DataConfig, listing: Listing) -> None:
    """Refuse a segmentation whose source has nothing to segment."""
    if cfg.task == "segmentation" and not listing.foreground:
        raise UserError(
            f"data.task is 'segmentation', but {listing.source} gives no masks. Read them (ham10000: "
            "data.source.masks: use), or set data.task: classification (config/data/)."
        )


def _check_foreground(listing: Listing, splits: np.ndarray, counts: np.ndarray) -> None:
    """Refuse a split on one side of which a class of the masks is not found."""
    for split in SPLITS:
        found = counts[splits == split, 1:].sum(0)
        absent = [c for c, n in zip(listing.foreground, found, strict=True) if not n]
        if absent:
            raise UserError(
                f"split '{split}' has no case with {', '.join(absent)} in its mask; every class is "
                "needed on every side. Add cases, or leave the class out."
            )


def run(cfg: DataConfig, *, out: Path, data_root: Path | None) -> dict[str, float]:
    """Prepare a data set.

    Parameters
    ----------
    cfg : the `data` group.
    out : folder to write into; untouched under its final names if the run fails.
    data_root : folder of the user's data sets; the drawn phantom needs none.

    Returns
    -------
    Counts of images, groups and leaks, seconds, and images per second.

    Raises
    ------
    UserError
        If data are missing, unusable, leak between splits, or do not fit the configuration.
    """
    started = time.perf_counter()
    listing = open_listing(cfg, data_root)
    log.info("%s: %d images, %d classes", cfg.name, len(listing.ids), len(listing.classes))
    if cfg.invalid == "refuse" and listing.invalid:
        _check_invalid(cfg, listing, listing.invalid)
    _check_masks(cfg, listing)
    with publishing(out) as work:
        read = stream(listing, cfg, work)
        _check_invalid(cfg, listing, read.invalid)
        rows, labels = read.rows, listing.labels[read.rows]
        ids, groups = [listing.ids[i] for i in rows], [listing.groups[i] for i in rows]
        splits = _sides(cfg, listing, rows, groups)
        if cfg.task == "segmentation":
            _check_foreground(listing, splits, read.pixels)
        leaks = leakage(cfg.audit, ids, groups, splits, read.seen)
        train = np.flatnonzero(splits == "train")
        calibration = calibration_set(
            labels, train, cfg.calibration.n, cfg.calibration.min_per_class, cfg.seed
        )
        np.save(work / "labels.npy", labels, allow_pickle=False)
        names = [listing.classes[label] for label in labels]
        write_csv(
            work / "split.csv",
            ("index", "id", "label", "class", "group", "split"),
            zip(range(len(ids)), ids, labels.tolist(), names, groups, splits, strict=True),
        )
        write_csv(work / "calibration.csv", ("index",), ([i] for i in calibration.tolist()))
        card = facts(cfg, listing, read, labels, groups, splits)
        card["leakage"] = leaks
        card["calibration"] = {"n": len(calibration)}
        card["hashes"] = {p.name: sha256(p) for p in sorted(work.iterdir())}
        write_json(work / "card.json", card)
    seconds = time.perf_counter() - started
    metrics = {f"n_{split}": float(np.sum(splits == split)) for split in SPLITS}
    metrics |= {f"leak_{k}": float(v) for k, v in leaks.items() if k != "findings"}
    metrics |= {
        "n_groups": float(len(set(groups))),
        "n_calibration": float(len(calibration)),
        "n_invalid": float(len(read.invalid)),
        "seconds": seconds,
        "images_per_second": len(ids) / seconds,
    }
    log.info("%s: %d images in %.1f s", cfg.name, len(ids), seconds)
    return metrics
