"""Stage `prepare`: from a source to arrays that every later stage reads (`edgeward.data.store`)."""

from __future__ import annotations

import importlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeward.core.errors import UserError
from edgeward.core.io import sha256, write_json
from edgeward.data.audit import leakage
from edgeward.data.card import facts
from edgeward.data.config import DataConfig, PythonSource
from edgeward.data.listing import Listing, Request
from edgeward.data.montage import montage
from edgeward.data.sources import folder, ham10000, medmnist, pairs, phantom
from edgeward.data.split import calibration_set, strata, stratified_group_split
from edgeward.data.store import SPLITS, open_prepared
from edgeward.data.stream import Read, named, stream
from edgeward.data.volumes.listing import VolumeListing
from edgeward.data.writer import publishing, write_csv

log = logging.getLogger(__name__)

AnyListing = Listing | VolumeListing

READS = ("sources/*.py",)  # loaded by name: see edgeward.pipeline.closure
SOURCES = {
    "phantom": phantom.open_source,
    "ham10000": ham10000.open_source,
    "medmnist": medmnist.open_source,
    "folder": folder.open_source,
    "pairs": pairs.open_source,
}
# Imported when they are asked for: their readers take a second to load.
VOLUME_SOURCES = {
    "phantom3d": ("phantom3d", "open_source"),
    "decathlon": ("nifti", "open_decathlon"),
    "nifti": ("nifti", "open_nifti"),
    "dicom": ("dicom", "open_source"),
}


def open_listing(cfg: DataConfig, data_root: Path | None) -> AnyListing:
    """Open the source that the config names."""
    source, size = cfg.source, cfg.image_size or 0
    if source.kind in VOLUME_SOURCES:
        module, name = VOLUME_SOURCES[source.kind]
        opener = getattr(importlib.import_module(f"edgeward.data.sources.{module}"), name)
        return opener(Request(source, size, cfg.seed, data_root))
    if not isinstance(source, PythonSource):
        request = Request(source, size, cfg.seed, data_root)
        return SOURCES[source.kind](request)
    try:
        opener = importlib.import_module(source.module).open_source
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"data.source.module '{source.module}' cannot be used ({error}): an importable module "
            "with a function open_source(request) is needed."
        ) from error
    listing = opener(Request(source.options, size, cfg.seed, data_root))
    wanted = Listing if cfg.volume is None else VolumeListing
    if not isinstance(listing, wanted):
        raise UserError(
            f"data.source.module '{source.module}' gave a {type(listing).__name__}; with data.volume "
            f"{'null' if cfg.volume is None else 'set'} a {wanted.__name__} is needed (config/data/)."
        )
    return listing


def _stream(listing: AnyListing, cfg: DataConfig, work: Path) -> Read:
    if isinstance(listing, Listing):
        return stream(listing, cfg, work)
    from edgeward.data.volumes.stream import stream_volumes

    return stream_volumes(listing, cfg, work)


def _check_invalid(cfg: DataConfig, listing: AnyListing, invalid: list[tuple[str, str]]) -> None:
    """Refuse or report the images that cannot be used."""
    if not invalid:
        return
    what = "images" if cfg.volume is None else "volumes"
    message = f"{len(invalid)} {what} of {listing.source} cannot be used{named(invalid)}"
    if cfg.invalid == "refuse":
        raise UserError(
            f"{message}Put them right, or set data.invalid: skip (config/data/) to leave them out."
        )
    log.warning("%sleft out, as data.invalid is 'skip'", message)


@dataclass
class _Cases:
    """The readable cases: what is known of each, in the order of the arrays."""

    ids: list[str]
    groups: list[str]
    labels: np.ndarray
    names: list[str]  # of the labels
    given: np.ndarray | None  # the source's splits


def _cases(listing: AnyListing, read: Read) -> _Cases:
    """Return the cases that were read; without labels the masks give the strata."""
    groups = [listing.groups[i] for i in read.rows]
    if isinstance(listing, VolumeListing) or listing.labels is None:
        labels, names = strata(read.pixels, groups, listing.foreground)
    else:
        labels, names = listing.labels[read.rows], listing.classes
    given = None if listing.splits is None else listing.splits[read.rows]
    return _Cases([listing.ids[i] for i in read.rows], groups, labels, names, given)


def _sides(cfg: DataConfig, source: str, cases: _Cases) -> np.ndarray:
    """Return the split of each case, str (n,)."""
    if cfg.split.kind == "given":
        if cases.given is None:
            raise UserError(
                f"data.split.kind is 'given', but {source} gives its images no split. Set it "
                "to 'stratified' with shares train, val and test (config/data/)."
            )
        return cases.given
    shares = (cfg.split.train, cfg.split.val, cfg.split.test)
    numbers = np.unique(cases.groups, return_inverse=True)[1]
    return stratified_group_split(cases.labels, numbers, shares, cfg.seed, cases.names)


def _check_masks(cfg: DataConfig, listing: AnyListing) -> None:
    """Refuse a segmentation whose source has nothing to segment."""
    if cfg.task == "segmentation" and not listing.foreground:
        raise UserError(
            f"data.task is 'segmentation', but {listing.source} gives no masks. Read them (ham10000: "
            "data.source.masks: use), or set data.task: multiclass (config/data/)."
        )


def _check_classes(
    cfg: DataConfig, listing: AnyListing, splits: np.ndarray, cases: _Cases, pixels: np.ndarray
) -> None:
    """Refuse a split on one side of which a class (of the images, or of the masks) is not found."""
    if cfg.task == "segmentation":
        what, names, held = "case with", listing.foreground, pixels[:, 1:] > 0
    else:
        what, names = "image of", cases.names
        held = np.eye(len(names), dtype=bool)[cases.labels]
    for split in SPLITS:
        found = held[splits == split].sum(0)
        absent = [c for c, n in zip(names, found, strict=True) if not n]
        if absent:
            raise UserError(
                f"split '{split}' has no {what} {', '.join(absent)}; every class is needed on "
                "every side. Add images, leave the class out, or set data.split.kind: stratified."
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
    log.info("%s: %d cases listed", cfg.name, len(listing.ids))
    if cfg.invalid == "refuse" and listing.invalid:
        _check_invalid(cfg, listing, listing.invalid)
    _check_masks(cfg, listing)
    with publishing(out) as work:
        read = _stream(listing, cfg, work)
        _check_invalid(cfg, listing, read.invalid)
        cases = _cases(listing, read)
        splits = _sides(cfg, listing.source, cases)
        _check_classes(cfg, listing, splits, cases, read.pixels)
        leaks = leakage(cfg.audit, cases.ids, cases.groups, splits, read.seen)
        train = np.flatnonzero(splits == "train")
        calibration = calibration_set(
            cases.labels, train, cfg.calibration.n, cfg.calibration.min_per_class, cfg.seed
        )
        np.save(work / "labels.npy", cases.labels, allow_pickle=False)
        names = [cases.names[label] for label in cases.labels]
        write_csv(
            work / "split.csv",
            ("index", "id", "label", "class", "group", "split"),
            zip(
                range(len(names)), cases.ids, cases.labels.tolist(), names, cases.groups, splits,
                strict=True,
            ),
        )  # fmt: skip
        write_csv(work / "calibration.csv", ("index",), ([i] for i in calibration.tolist()))
        card = facts(cfg, listing, read, cases.labels, cases.names, cases.groups, splits)
        card["leakage"] = leaks
        card["calibration"] = {"n": len(calibration)}
        card["hashes"] = {p.name: sha256(p) for p in sorted(work.iterdir())}
        write_json(work / "card.json", card)
        montage(open_prepared(work), work / "montage.png")
    seconds = time.perf_counter() - started
    metrics = {f"n_{split}": float(np.sum(splits == split)) for split in SPLITS}
    metrics |= {f"leak_{k}": float(v) for k, v in leaks.items() if k != "findings"}
    metrics |= {
        "n_groups": float(len(set(cases.groups))),
        "n_calibration": float(len(calibration)),
        "n_invalid": float(len(read.invalid)),
        "seconds": seconds,
        "images_per_second": len(splits) / seconds,
    }
    log.info("%s: %d images in %.1f s", cfg.name, len(splits), seconds)
    return metrics
