"""Stage `prepare`: from a source to arrays that every later stage reads (`edgeward.data.store`)."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.core import plugins
from edgeward.core.errors import UserError, unknown
from edgeward.core.io import atomic, sha256
from edgeward.data.audit import Audited, audited, joined
from edgeward.data.config import (
    DataConfig,
    Folds,
    GivenSplit,
    HeldOut,
    PythonSource,
    RareByName,
    StratifiedSplit,
)
from edgeward.data.door import Door, said, shown
from edgeward.data.findings import UNKNOWN, Findings, scarce, without_scarce
from edgeward.data.listing import Listing, Request
from edgeward.data.montage import montage
from edgeward.data.split import calibration_set, fold_names, strata, stratified_group_split
from edgeward.data.store import SPLIT_COLUMNS, SPLITS, open_prepared, sides
from edgeward.data.stream import NAMED, Streamed, named, stream
from edgeward.data.targets import Cases, PixelSums, Targets, table
from edgeward.data.writer import publishing, write_csv
from edgeward.records.card import CalibrationSet, Card, Invalid

log = logging.getLogger(__name__)

READS = ("sources/*.py",)  # loaded by name: see edgeward.pipeline.closure
WHERE = "data.task (config/data/)"


FINDINGS = "findings.csv"  # beside the prepared files, also where `prepare` refuses


def open_listing(cfg: DataConfig, data_root: Path | None, door: Door | None = None) -> Listing:
    """Open the source that the config names: the module of its kind, or one's own."""
    own = cfg.source if isinstance(cfg.source, PythonSource) else None
    door = door or Door(cfg.limits, cfg.checks)
    request = Request(
        own.options if own else cfg.source, cfg.image_size or 0, cfg.seed, data_root, door
    )
    module = own.module if own else f"edgeward.data.sources.{cfg.source.kind}"
    try:
        opener = importlib.import_module(module).open_source
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"data.source.module '{module}' cannot be used ({error}): an importable module "
            "with a function open_source(request) is needed."
        ) from error
    where = f"data.source.module '{module}'" if own else f"data.source of '{cfg.name}' ({module})"
    try:
        listing = opener(request)
    except UserError:
        raise
    except Exception as error:  # whatever a source stumbles over, the run ends with its name
        log.debug("a source failed", exc_info=True)
        raise UserError(f"{where} cannot be opened ({said(error)}).") from error
    if not isinstance(listing, Listing):
        raise UserError(f"{where} gave a {type(listing).__name__}, no Listing.")
    listing.check()
    if listing.spatial_dims != cfg.spatial_dims:
        raise UserError(
            f"data.source.module '{module}' gave a Listing of {listing.spatial_dims} dimensions; with "
            f"data.volume {'null' if cfg.volume is None else 'set'} it must have "
            f"{cfg.spatial_dims} (`batches` for images, `read` for volumes; config/data/)."
        )
    return listing


def _check_invalid(
    cfg: DataConfig, listing: Listing, invalid: list[tuple[str, str]], where: Path
) -> None:
    """Refuse or report the cases that cannot be used."""
    if not invalid:
        return
    what = "images" if cfg.volume is None else "volumes"
    message = f"{len(invalid)} {what} of {listing.source} cannot be used{named(invalid)}"
    if cfg.invalid == "refuse":
        raise UserError(
            f"{message}All of them are in {where}. Put them right, or set data.invalid: skip (config/data/) to leave them out."
        )
    log.warning("%sleft out, as data.invalid is 'skip'", message)


def _target(cfg: DataConfig, listing: Listing) -> str:
    """Return what the task needs of a source; refuse it if the source does not give that."""
    target = plugins.load("edgeward.tasks", cfg.task, "task", WHERE).TASK.target
    gives = {
        "classes": listing.labels is not None,
        "findings": listing.findings is not None,
        "masks": bool(listing.foreground),
    }
    if not gives[target]:
        raise UserError(
            f"data.task is '{cfg.task}', but {listing.source} gives no {target}. Read them (ham10000: "
            "data.source.masks: use), or change data.task (config/data/)."
        )
    return str(target)


def _cases(listing: Listing, read: Streamed, target: str) -> Cases:
    """Return the cases that were read; without labels the masks give the strata."""
    rows, pixels = read.whole.rows, read.whole.pixels
    groups = [listing.groups[i] for i in rows]
    findings = None
    if listing.findings is not None and target == "findings":
        findings = listing.findings.of(rows)
        labels, names = strata(findings.held, groups, findings.names)
    elif listing.labels is None:
        labels, names = strata(pixels[:, 1:] > 0, groups, listing.foreground)
    else:
        labels, names = listing.labels[rows], listing.classes
    given = None if listing.splits is None else listing.splits[rows]
    ids = [listing.ids[i] for i in rows]
    columns = {name: [values[i] for i in rows] for name, values in listing.columns.items()}
    return Cases(ids, groups, labels, names, given, pixels, listing.foreground, findings, columns)


def _without_scarce(cfg: DataConfig, cases: Cases, on: Mapping[str, np.ndarray] | int) -> Cases:
    """Return the cases without findings that cannot be on every side, or refuse these; `on` as in `scarce`."""
    if cases.findings is None:
        return cases
    lacking = scarce(cases.findings, cases.groups, on)
    found = without_scarce(cases.findings, lacking, cfg.scarce == "leave_out")
    if lacking:
        log.warning("left out, as data.scarce is 'leave_out': %s", ", ".join(lacking))
    labels, names = strata(found.held, cases.groups, found.names)
    return replace(cases, findings=found, labels=labels, names=names)


def _sides(cfg: DataConfig, source: str, cases: Cases) -> np.ndarray:
    """Return the split of each case, or its fold, str (n,)."""
    if isinstance(cfg.split, GivenSplit):
        if cases.given is None:
            raise UserError(
                f"data.split.kind is 'given', but {source} gives its images no split. Set it "
                "to 'stratified' with shares train, val and test (config/data/)."
            )
        if "train" not in cases.given:
            raise UserError(
                f"{source} gives no case to train. Set data.split.kind to 'stratified', or to 'held_out' if nothing is to be trained "
                "(config/data/)."
            )
        return _with_validation(cases, cfg.split.val, cfg.seed)
    names, shares = _shares(cfg.split)
    numbers = np.unique(cases.groups, return_inverse=True)[1]
    dealt, of = _dealt_by(cases)
    return stratified_group_split(dealt, numbers, shares, cfg.seed, of, names)


def _shares(split: Folds | HeldOut | StratifiedSplit) -> tuple[list[str], list[float]]:
    """Return the sides that cases are dealt to, and the share of each."""
    if isinstance(split, Folds):
        names = fold_names(split.folds)
        return names, [1 / len(names)] * len(names)
    if isinstance(split, HeldOut):
        return ["val", "test"], [split.val, 1 - split.val]
    return [*SPLITS], [split.train, split.val, split.test]


def _dealt_by(cases: Cases) -> tuple[np.ndarray, list[str]]:
    """Return what sides keep equal, and the names of the classes in it."""
    if cases.findings is None:
        return cases.labels, cases.names
    return cases.findings.held, cases.findings.names


def _with_validation(cases: Cases, share: float | None, seed: int) -> np.ndarray:
    """Return the source's sides, str (n,); without validation, a share of train becomes that, by groups and stratified."""
    assert cases.given is not None
    found = set(cases.given.tolist())
    if "val" in found or "train" not in found or share is None:
        return cases.given
    train = np.flatnonzero(cases.given == "train")
    numbers = np.unique([cases.groups[i] for i in train], return_inverse=True)[1]
    names = ("train", "val")
    by, of = _dealt_by(cases)
    dealt = stratified_group_split(by[train], numbers, (1 - share, share), seed, of, names)
    splits = cases.given.astype("<U5")
    splits[train] = dealt
    return splits


def _answers(cases: Cases, target: str) -> list[str]:
    """Return what is said of each case, in words, so that copies can contradict each other; of masks nothing: these are compared."""
    if target == "masks":
        return []
    if cases.findings is None:
        return [cases.names[label] for label in cases.labels]
    names, sign = cases.findings.names, {1: "", UNKNOWN: "?"}
    return [
        ", ".join(f"{name}{sign[v]}" for name, v in zip(names, row, strict=True) if v) or "none"
        for row in cases.findings.values.tolist()
    ]


def _lost(before: Findings | None, after: Findings | None) -> dict[str, int]:
    """Return the findings that were left out, and how many cases have each."""
    if before is None or after is None:
        return {}
    counts = zip(before.names, before.held.sum(axis=0).tolist(), strict=True)
    return {name: n for name, n in counts if name not in after.names}


def _check_classes(targets: Targets, splits: np.ndarray) -> None:
    """Refuse a split on one side of which a class is not found."""
    for split in sides(splits):
        found = targets.held[splits == split].sum(0)
        absent = [c for c, n in zip(targets.classes, found, strict=True) if not n]
        if absent:
            raise UserError(
                f"split '{split}' has no {targets.having} {', '.join(absent)}; every class is needed "
                "on every side. Add images, leave the class out, set data.split.kind: stratified, or, if the source has train and "
                "test only, deal validation from train (data.split: {kind: given, val: 0.2})."
            )


def _rare(cfg: DataConfig, targets: Targets, share: np.ndarray) -> tuple[list[str], str]:
    """Return the rare classes, by their share of the training cases, and the rule, in words."""
    classes = targets.classes
    if isinstance(cfg.rare, RareByName):
        for name in cfg.rare.classes:
            if name not in classes:
                raise unknown("class", name, classes, "data.rare.classes (config/data/)")
        return [c for c in classes if c in cfg.rare.classes], "named in the configuration"
    rare = [c for c, s in zip(classes, share, strict=True) if s < cfg.rare.below]
    return rare, f"less than {cfg.rare.below:g} of {targets.rare_of}"


def write_findings(out: Path, invalid: list[tuple[str, str]], found: Audited | None = None) -> None:
    """Write ``findings.csv``: every case that cannot be used, and all that the audit found."""
    out.mkdir(parents=True, exist_ok=True)
    header = ("kind", "number", "case", "group", "split", "label", "reason")
    unusable = [("invalid", "", shown(name), "", "", "", reason) for name, reason in invalid]
    with atomic(out / FINDINGS) as temporary:
        write_csv(temporary, header, [*unusable, *(found.rows() if found else ())])


def write_splits(
    work: Path, cases: Cases, splits: np.ndarray, train: np.ndarray, cfg: DataConfig
) -> CalibrationSet:
    """Write ``split.csv`` and ``calibration.csv``; return what the card says of the latter.

    Parameters
    ----------
    splits : str (n,), split or fold of each case. train : int64, those that calibration is drawn from, if any.
    """
    asked = cfg.calibration
    calibration = (
        calibration_set(cases.labels, train, asked.n, asked.min_per_class, cfg.seed)
        if len(train)
        else train
    )
    names = [cases.names[label] for label in cases.labels]
    write_csv(
        work / "split.csv",
        (*SPLIT_COLUMNS, *cases.columns),
        zip(
            range(len(names)), cases.ids, cases.labels.tolist(), names, cases.groups, splits,
            *cases.columns.values(), strict=True,
        ),
    )  # fmt: skip
    write_csv(work / "calibration.csv", ("index",), ([i] for i in calibration.tolist()))
    return CalibrationSet(n=len(calibration))


def split_facts(
    targets: Targets, groups: list[str], splits: np.ndarray, train: np.ndarray, sums: PixelSums
) -> dict[str, Any]:
    """Return those fields of the card that depend on which case is on which side.

    Parameters
    ----------
    splits : str (n,), split or fold of each case. train : int64, the cases that models learn from.
    """
    of_group = np.array(groups)
    pixels = sums.pixels[train].sum()
    mean = sums.values[train].sum(0) / pixels
    variance = sums.squares[train].sum(0) / pixels - mean**2
    shares = targets.shares[train].sum(0)
    return {
        "counts": table(targets.held, targets.classes, splits),
        "groups": {side: len(set(of_group[splits == side])) for side in sides(splits)},
        "train_prior": shares / shares.sum(),
        "channel_mean": mean / 255,
        "channel_std": np.sqrt(np.maximum(variance, 0)) / 255,
        **targets.facts(splits),
    }


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
    task = plugins.load("edgeward.tasks", cfg.task, "data", WHERE)
    door = Door(cfg.limits, cfg.checks)
    listing = open_listing(cfg, data_root, door)
    log.info("%s: %d cases listed", cfg.name, len(listing.ids))
    if cfg.invalid == "refuse" and listing.invalid:
        write_findings(out, listing.invalid)
        _check_invalid(cfg, listing, listing.invalid, out / FINDINGS)
    target = _target(cfg, listing)
    with publishing(out) as work:
        read = stream(listing, cfg, work, door)
        write_findings(out, read.whole.invalid)
        _check_invalid(cfg, listing, read.whole.invalid, out / FINDINGS)
        cases = _cases(listing, read, target)
        if cfg.audit.identical == "group":
            cases = replace(cases, groups=joined(cases.groups, read.seen.digests))
        listed = cases.findings
        if not isinstance(cfg.split, GivenSplit):
            cases = _without_scarce(cfg, cases, len(_shares(cfg.split)[0]))
        splits = _sides(cfg, listing.source, cases)
        cases = _without_scarce(cfg, cases, {side: splits == side for side in sides(splits)})
        targets: Targets = task.targets(cases)
        _check_classes(targets, splits)
        answers = _answers(cases, target)
        found = audited(cfg.audit, cases.ids, cases.groups, splits, read.seen, answers)
        write_findings(out, read.whole.invalid, found)
        found.act(str(out / FINDINGS))
        stored = cases.labels if targets.findings is None else targets.findings.values
        np.save(work / "labels.npy", stored, allow_pickle=False)
        train = np.flatnonzero(splits == "train")
        calibration = write_splits(work, cases, splits, train, cfg)
        if isinstance(cfg.split, Folds | HeldOut):  # what is said of cases is said of all of them
            train = np.arange(len(splits))
        rare, rule = _rare(cfg, targets, targets.held[train].mean(0))
        whole = read.whole
        sums = PixelSums(whole.sums, whole.squares, whole.pixels)
        Card(
            name=cfg.name,
            task=cfg.task,
            spatial_dims=cfg.spatial_dims,
            source=listing.source,
            licence=listing.licence,
            citation=listing.citation,
            classes=targets.classes,
            meanings={k: v for k, v in listing.meanings.items() if k in targets.classes},
            synthetic=listing.synthetic,
            n_labels=targets.shares.shape[1],
            rare_classes=rare,
            rare_rule=rule,
            n_images=len(splits),
            image_shape=read.shape,
            input_range=(0, 255),
            seed=cfg.seed,
            invalid=Invalid(n=len(whole.invalid), first=whole.invalid[:NAMED]),
            **split_facts(targets, cases.groups, splits, train, sums),
            noted={kind: n for kind, n in sorted(door.noted.items()) if n},
            notes={**listing.notes, **read.notes},
            left_out=_lost(listed, cases.findings),
            leakage=found.card(),
            calibration=calibration,
            hashes={p.name: sha256(p) for p in sorted(work.iterdir())},
        ).write(work / "card.json")
        montage(open_prepared(work), work / "montage.png")
    seconds = time.perf_counter() - started
    metrics = {f"n_{side}": float(np.sum(splits == side)) for side in sides(splits)}
    metrics |= {f"leak_{k}": float(v) for k, v in found.counts.items()}
    metrics |= {
        "n_groups": float(len(set(cases.groups))),
        "n_calibration": float(calibration.n),
        "n_invalid": float(len(whole.invalid)),
        "seconds": seconds,
        "images_per_second": len(splits) / seconds,
    }
    log.info("%s: %d images in %.1f s", cfg.name, len(splits), seconds)
    return metrics
