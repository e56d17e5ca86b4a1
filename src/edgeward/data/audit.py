"""Leaks between splits: one group, the same pixels, or almost the same picture on two sides."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.data.config import Audit
from edgeward.data.store import sides

log = logging.getLogger(__name__)

MAX_FINDINGS = 100  # of each kind in card.json; the counts are always complete
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
    hashes: list[np.ndarray] = field(default_factory=list)
    thumbs: list[np.ndarray] = field(default_factory=list)

    def add(self, images: np.ndarray) -> None:
        """Take a batch, uint8 (b, h, w, c)."""
        self.digests += [hashlib.sha256(image.tobytes()).digest() for image in images]
        self._take(*fingerprints(images))

    def add_volume(self, image: np.ndarray) -> None:
        """Take a volume, (c, d, h, w), 0-255, sides at least 8."""
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


def leakage(
    audit: Audit,
    ids: Sequence[str],
    groups: Sequence[str],
    splits: np.ndarray,
    seen: Signatures,
    truth: np.ndarray | None = None,
) -> dict[str, Any]:
    """Look for leaks between the splits, and for cases that contradict each other, and act on them as `audit` says.

    Parameters
    ----------
    truth : the label of each case, (n,), or its findings, (n, c); None where masks are predicted.

    Returns
    -------
    The `leakage` part of card.json: the numbers of groups on several sides, of sets of identical
    images on several sides, of those with different labels on whatever side, of near-identical pairs across sides (identical ones not counted
    again), and the findings with image ids, at most `MAX_FINDINGS` of each kind.

    Raises
    ------
    UserError
        If there is a finding whose policy is "refuse".
    """
    findings: list[dict[str, Any]] = []
    counts = {}
    by_group, by_digest = defaultdict(list), defaultdict(list)
    for i, (group, digest) in enumerate(zip(groups, seen.digests, strict=True)):
        by_group[group].append(i)
        by_digest[digest].append(i)
    for kind, table in (("shared_groups", by_group), ("identical", by_digest)):
        several = (rows for rows in table.values() if len(rows) > 1)
        across = [rows for rows in several if len(set(splits[rows])) > 1]
        counts[kind] = len(across)
        findings += [_finding(kind, rows, ids, groups, splits) for rows in across[:MAX_FINDINGS]]
    if truth is not None:
        several = (rows for rows in by_digest.values() if len(rows) > 1)
        differ = [rows for rows in several if (truth[rows] != truth[rows[0]]).any()]
        counts["contradictory"] = len(differ)
        findings += [
            _finding("contradictory", r, ids, groups, splits) for r in differ[:MAX_FINDINGS]
        ]
    counts["near_identical"] = 0
    pairs = near_pairs(
        np.concatenate(seen.hashes),
        np.concatenate(seen.thumbs),
        splits,
        audit.near_bits,
        audit.near_levels,
    )
    for i, j in pairs:
        if seen.digests[i] != seen.digests[j]:
            counts["near_identical"] += 1
            if counts["near_identical"] <= MAX_FINDINGS:
                findings.append(_finding("near_identical", [i, j], ids, groups, splits))
    refused = []
    for kind, count in counts.items():
        if not count:
            continue
        first = [f"{f['ids']} in {f['splits']}" for f in findings if f["kind"] == kind][:5]
        told = f"{kind} (the same pixels, other labels)" if kind == "contradictory" else kind
        message = f"{told}: {count}, e.g. {'; '.join(first)}"
        if getattr(audit, kind) != "warn":
            refused.append(message)
        else:
            log.warning("leak between splits, %s", message)
    if refused:
        raise UserError(
            f"leak between splits, {' | '.join(refused)}. A verdict on such splits would flatter. "
            "Give the images of one patient or lesion one group, remove the copies (or, with sides that are dealt here, set "
            "data.audit.identical: group), or set the data.audit key of that name to 'warn' (config/data/)."
        )
    return {**counts, "findings": findings}


def _finding(
    kind: str, rows: Sequence[int], ids: Sequence[str], groups: Sequence[str], splits: np.ndarray
) -> dict[str, Any]:
    shown = list(rows[:10])
    return {
        "kind": kind,
        "ids": [ids[i] for i in shown],
        "groups": [groups[i] for i in shown],
        "splits": [str(splits[i]) for i in shown],
        "n": len(rows),
    }
