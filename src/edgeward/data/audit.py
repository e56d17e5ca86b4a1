"""Leaks between splits (one group, the same pixels, or almost the same picture on two sides), copies, and labels that contradict each other."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
from typing import Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.data.config import Audit
from edgeward.data.store import sides

log = logging.getLogger(__name__)

MAX_FINDINGS = 100  # of each kind in card.json; the counts are always complete
MAX_ROWS = 100_000  # of each kind in findings.csv
_THUMB = 16
_BLOCK = 256  # x _STRIDE pairs at a time, 8 bytes each
_STRIDE = 4096


def _cells(grey: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Average grey images (b, h, w) over a grid: float32 (b, rows, columns)."""
    _, h, w = grey.shape
    y, x = np.arange(rows + 1) * h // rows, np.arange(columns + 1) * w // columns
    sums = np.add.reduceat(np.add.reduceat(grey, y[:-1], axis=1), x[:-1], axis=2)
    return sums.astype(np.float32) / np.outer(np.diff(y), np.diff(x)).astype(np.float32)


def fingerprints(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what near-identical images share.

    Parameters
    ----------
    images : uint8 (b, h, w, c), h and w at least 16.

    Returns
    -------
    dhash : uint64 (b,). Bit: is a cell of a 8 x 9 grid darker than its right neighbour
        (difference hash, N. Krawetz, "Kind of like that", 2013).
    thumbs : uint8 (b, 256), mean grey of a 16 x 16 grid.
    """
    weights = (299, 587, 114) if images.shape[-1] == 3 else (1000,)
    grey = np.zeros(images.shape[:3], np.int32)
    for channel, weight in enumerate(weights):
        grey += images[..., channel].astype(np.int32) * weight
    grid = _cells(grey, 8, 9)
    bits = (grid[:, :, 1:] > grid[:, :, :-1]).reshape(len(images), 64)
    dhash = np.packbits(bits, axis=1).view(">u8").astype(np.uint64).reshape(-1)
    thumbs = np.rint(_cells(grey, _THUMB, _THUMB) / np.float32(1000)).astype(np.uint8)
    return dhash, thumbs.reshape(len(images), -1)


def volume_fingerprint(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what near-identical volumes share: `fingerprints` with an axis more.

    Parameters
    ----------
    image : (c, d, h, w), 0-255, sides at least 8; the mean of the channels counts.

    Returns
    -------
    dhash : uint64 (1,). Bit: is a cell of a 4 x 4 x 5 grid of means darker than its neighbour.
    thumbs : uint8 (1, 512), means of an 8 x 8 x 8 grid.
    """
    mean = image.mean(0, dtype=np.float64)
    grid = _block_means(mean, (4, 4, 5))
    bits = (grid[:, :, 1:] > grid[:, :, :-1]).reshape(1, 64)
    dhash = np.packbits(bits, axis=1).view(">u8").astype(np.uint64).reshape(-1)
    return dhash, np.rint(_block_means(mean, (8, 8, 8))).astype(np.uint8).reshape(1, -1)


def _block_means(volume: np.ndarray, counts: tuple[int, ...]) -> np.ndarray:
    """Average an array over a grid of so many cells along each axis."""
    for axis, count in enumerate(counts):
        edges = np.arange(count + 1) * volume.shape[axis] // count
        sums = np.add.reduceat(volume, edges[:-1], axis=axis)
        volume = np.moveaxis(np.moveaxis(sums, axis, -1) / np.diff(edges), -1, axis)
    return volume


@dataclass
class Signatures:
    """Collects some 300 bytes per image (600 per volume) while the images stream by."""

    digests: list[bytes] = field(default_factory=list)
    masks: list[bytes] = field(default_factory=list)
    hashes: list[np.ndarray] = field(default_factory=list)
    thumbs: list[np.ndarray] = field(default_factory=list)

    def add(self, images: np.ndarray, masks: np.ndarray | None = None) -> None:
        """Take a batch, uint8 (b, h, w, c), and its masks, uint8 (b, h, w)."""
        self.digests += [hashlib.sha256(image.tobytes()).digest() for image in images]
        if masks is not None:
            self.masks += [hashlib.sha256(mask.tobytes()).digest() for mask in masks]
        self._take(*fingerprints(images))

    def add_volume(self, image: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Take a volume, (c, d, h, w), 0-255, sides at least 8, and its mask, uint8 (d, h, w)."""
        if mask is not None:
            self.masks.append(hashlib.sha256(mask.tobytes()).digest())
        self.digests.append(hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest())
        self._take(*volume_fingerprint(image))

    def _take(self, dhash: np.ndarray, thumbs: np.ndarray) -> None:
        self.hashes.append(dhash)
        self.thumbs.append(thumbs)


def near_pairs(
    dhash: np.ndarray, thumbs: np.ndarray, splits: np.ndarray, bits: int, levels: float
) -> Iterator[tuple[int, int]]:
    """Yield every pair on different sides within `bits` of dHash and `levels` of thumbnail.

    All pairs across sides are compared, a block at a time: exact, some 2e8 pairs a second.

    Parameters
    ----------
    dhash : uint64 (n,).
    thumbs : uint8 (n, 256).
    splits : str (n,).
    bits : largest Hamming distance.
    levels : largest mean absolute difference, grey levels.
    """
    of_side = [np.flatnonzero(splits == s) for s in sides(splits)]
    for a, b in combinations(range(len(of_side)), 2):
        for start in range(0, len(of_side[a]), _BLOCK):
            left = of_side[a][start : start + _BLOCK]
            for offset in range(0, len(of_side[b]), _STRIDE):
                right = of_side[b][offset : offset + _STRIDE]
                apart = np.bitwise_count(dhash[left][:, None] ^ dhash[right][None, :])
                rows, columns = np.nonzero(apart <= bits)
                for at in range(0, len(rows), 1 << 14):
                    i = left[rows[at : at + (1 << 14)]]
                    j = right[columns[at : at + (1 << 14)]]
                    gap = np.abs(thumbs[i].astype(np.int16) - thumbs[j]).mean(1)
                    for k in np.flatnonzero(gap <= levels):
                        yield int(i[k]), int(j[k])


def joined(groups: Sequence[str], digests: Sequence[bytes]) -> list[str]:
    """Return the groups of cases with those united that share a case's pixels; a united group has the name of its first one."""
    first: dict[str, str] = {group: group for group in groups}

    def root(group: str) -> str:
        while first[group] != group:
            first[group] = group = first[first[group]]
        return group

    of_digest: dict[bytes, str] = {}
    for group, digest in zip(groups, digests, strict=True):
        known = root(of_digest.setdefault(digest, group))
        first[root(group)] = known
    return [root(group) for group in groups]


@dataclass
class Finding:
    """Cases, by their index, that should not be as they are: a group or copies on several sides, a pair, copies with two labels."""

    kind: str
    rows: list[int]


UNITS = {
    "shared_groups": ("group", "on several sides"),
    "identical": ("set of copies", "on several sides"),
    "near_identical": ("pair", "across sides"),
    "contradictory": ("set of copies", "with several labels"),
    "copies": ("set of copies", "on one side"),
}
"""What each kind counts, and where."""


@dataclass
class Audited:
    """All that was found: `counts` of each kind of `UNITS`, and of the cases concerned; `findings`, of each kind at most `MAX_ROWS`."""

    audit: Audit
    counts: dict[str, int]
    cases: dict[str, int]
    findings: list[Finding]
    ids: Sequence[str]
    groups: Sequence[str]
    labels: Sequence[str]
    splits: np.ndarray

    def card(self) -> dict[str, Any]:
        """Return the `leakage` part of card.json: the counts, and at most `MAX_FINDINGS` findings of each kind."""
        first: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for finding in self.findings:
            if len(first[finding.kind]) < MAX_FINDINGS:
                first[finding.kind].append(self._shown(finding))
        findings = [finding for kind in self.counts for finding in first[kind]]
        return {**self.counts, "cases": self.cases, "findings": findings}

    def rows(self) -> Iterator[tuple[str, int, str, str, str, str, str]]:
        """Yield the rows of ``findings.csv``: a case each, those of a finding under one number."""
        for number, finding in enumerate(self.findings, start=1):
            reason = " ".join(UNITS[finding.kind])
            for i in finding.rows:
                yield (finding.kind, number, self.ids[i], self.groups[i], str(self.splits[i]), self.labels[i], reason)  # fmt: skip

    def _shown(self, finding: Finding) -> dict[str, Any]:
        rows = finding.rows[:10]
        return {
            "kind": finding.kind,
            "ids": [self.ids[i] for i in rows],
            "groups": [self.groups[i] for i in rows],
            "splits": [str(self.splits[i]) for i in rows],
            "labels": [self.labels[i] for i in rows],
            "n": len(finding.rows),
        }

    def act(self, where: str) -> None:
        """Refuse or report what was found, as `audit` says; `where` all of it is written.

        Raises
        ------
        UserError
            If there is a finding whose policy is not "warn".
        """
        refused = []
        for kind, count in self.counts.items():
            if not count:
                continue
            what, place = UNITS[kind]
            several = (
                what if count == 1 else what.replace("set", "sets") if "set" in what else f"{what}s"
            )
            mine = (f for f in self.findings if f.kind == kind)
            shown = [self._shown(f) for f in islice(mine, 5)]
            aside = "labels" if kind == "contradictory" else "splits"
            first = "; ".join(f"{f['ids']} in {f[aside]}" for f in shown)
            message = f"{kind}: {count} {several} {place} ({self.cases[kind]} cases), e.g. {first}"
            if getattr(self.audit, kind) != "warn":
                refused.append(message)
            else:
                log.warning("audit of the data, %s", message)
        if refused:
            raise UserError(
                f"audit of the data, {' | '.join(refused)}. All of them are in {where}. A verdict on such splits would flatter: give the "
                "images of one patient or lesion one group, remove copies and put labels that contradict each other right (or, with sides "
                "that are dealt here, set data.audit.identical: group), or set the data.audit key of that name to 'warn' (config/data/)."
            )


def audited(
    audit: Audit,
    ids: Sequence[str],
    groups: Sequence[str],
    splits: np.ndarray,
    seen: Signatures,
    labels: Sequence[str] = (),
) -> Audited:
    """Look for leaks between the splits, for copies, and for copies that contradict each other.

    Parameters
    ----------
    labels : the class of each case, str (n,); without them masks are compared, if there are any.

    Returns
    -------
    All findings. Counted are groups on several sides, sets of identical images on several sides, with several labels, and with
    two of them on one side, and near-identical pairs across sides (identical ones not counted again).
    """
    answers: Sequence[Any] = labels or seen.masks or [""] * len(ids)
    if not labels and seen.masks:
        numbers = {digest: f"mask {k}" for k, digest in enumerate(dict.fromkeys(seen.masks))}
        labels = [numbers[digest] for digest in seen.masks]
    by_group, by_digest = defaultdict(list), defaultdict(list)
    for i, (group, digest) in enumerate(zip(groups, seen.digests, strict=True)):
        by_group[group].append(i)
        by_digest[digest].append(i)

    def across(rows: list[int]) -> bool:
        return len(set(splits[rows])) > 1

    copies = [rows for rows in by_digest.values() if len(rows) > 1]
    found = {
        "shared_groups": [rows for rows in by_group.values() if len(rows) > 1 and across(rows)],
        "identical": [rows for rows in copies if across(rows)],
        "near_identical": [],
        "contradictory": [rows for rows in copies if len({answers[i] for i in rows}) > 1],
        "copies": [rows for rows in copies if len(set(splits[rows])) < len(rows)],
    }
    counts = {kind: len(sets) for kind, sets in found.items()}
    concerned = {kind: len({i for rows in sets for i in rows}) for kind, sets in found.items()}
    near: set[int] = set()
    for i, j in near_pairs(
        np.concatenate(seen.hashes),
        np.concatenate(seen.thumbs),
        splits,
        audit.near_bits,
        audit.near_levels,
    ):
        if seen.digests[i] != seen.digests[j]:
            counts["near_identical"] += 1
            near |= {i, j}
            if counts["near_identical"] <= MAX_ROWS:
                found["near_identical"].append([i, j])
    concerned["near_identical"] = len(near)
    findings = [Finding(kind, rows) for kind, sets in found.items() for rows in sets[:MAX_ROWS]]
    names = list(labels) or [""] * len(ids)
    return Audited(audit, counts, concerned, findings, ids, groups, names, splits)
