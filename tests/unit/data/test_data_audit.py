"""The audit finds what leaks: against brute force, and on planted copies."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from refusals import naming

from edgeward.core.errors import UserError
from edgeward.data.audit import UNITS, Signatures, audited, fingerprints, near_pairs
from edgeward.data.config import Audit

WARN = Audit(
    near_bits=4, near_levels=4.0, shared_groups="warn", identical="warn", near_identical="warn"
)


def scenes(n: int, size: int = 64, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth random pictures, each different."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 9, 9, channels), dtype=np.uint8)
    large = [
        np.asarray(Image.fromarray(c.squeeze()).resize((size, size), Image.Resampling.BICUBIC))
        for c in coarse
    ]
    return np.stack(large).reshape(n, size, size, channels)


def signed(images: np.ndarray) -> Signatures:
    seen = Signatures()
    for start in range(0, len(images), 7):
        seen.add(images[start : start + 7])
    return seen


def test_dhash_is_the_sign_of_the_horizontal_difference() -> None:
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 256, (5, 8, 9), dtype=np.uint8)
    images = cells.repeat(8, axis=1).repeat(8, axis=2)[..., None]  # 64 x 72: whole cells
    dhash, _ = fingerprints(images)
    for image, value in zip(cells.astype(int), dhash, strict=True):
        bits = "".join("1" if row[x + 1] > row[x] else "0" for row in image for x in range(8))
        assert f"{int(value):064b}" == bits


def test_thumbnails_are_block_means_of_grey() -> None:
    images = scenes(4)
    _, thumbs = fingerprints(images)
    grey = images @ np.array([0.299, 0.587, 0.114])
    means = grey.reshape(4, 16, 4, 16, 4).mean((2, 4)).reshape(4, 256)
    np.testing.assert_allclose(thumbs, means, atol=0.51)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(0, 16), st.floats(0, 64))
def test_near_pairs_equal_brute_force(seed: int, n: int, bits: int, levels: float) -> None:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 2**63, 4, dtype=np.uint64)
    flips = np.uint64(1) << rng.integers(0, 63, (n, 6)).astype(np.uint64)
    dhash = base[rng.integers(0, 4, n)]
    for k in range(6):
        dhash = dhash ^ flips[:, k]
    thumbs = rng.integers(100, 180, (n, 256)).astype(np.uint8)
    splits = rng.choice(["train", "val", "test"], n)
    found = set()
    for i, j in near_pairs(dhash, thumbs, splits, bits, levels):
        pair = frozenset((i, j))
        assert pair not in found
        found.add(pair)
    expected = {
        frozenset((i, j))
        for i in range(n)
        for j in range(i)
        if splits[i] != splits[j]
        and bin(int(dhash[i]) ^ int(dhash[j])).count("1") <= bits
        and np.abs(thumbs[i].astype(int) - thumbs[j]).mean() <= levels
    }
    assert found == expected


def test_near_pairs_across_block_borders() -> None:
    n = 9000
    dhash = np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    dhash[8999] = dhash[300]
    splits = np.array(["train"] * 600 + ["test"] * (n - 600))
    thumbs = np.zeros((n, 256), np.uint8)
    assert list(near_pairs(dhash, thumbs, splits, 0, 0)) == [(300, 8999)]


@pytest.mark.parametrize("channels", [1, 3])
def test_planted_leaks_are_found_and_nothing_else(channels: int) -> None:
    images = scenes(60, channels=channels).copy()
    images[50] = images[3]  # the same, train and test
    images[51] = images[20]  # the same, but both in test
    noise = np.random.default_rng(1).integers(-3, 4, images[5].shape)
    images[52] = np.clip(images[5].astype(int) + noise, 0, 255)
    splits = np.array(["train"] * 20 + ["test"] * 40)
    groups = [f"g{i}" for i in range(60)]
    groups[30] = "g7"
    ids = [f"im{i}" for i in range(60)]
    found = audited(WARN, ids, groups, splits, signed(images)).card()
    assert (found["shared_groups"], found["identical"], found["near_identical"]) == (1, 1, 1)
    assert (found["copies"], found["contradictory"]) == (1, 0)
    assert found["cases"] == dict.fromkeys(UNITS, 2) | {"contradictory": 0}
    by_kind = {f["kind"]: f for f in found["findings"]}
    assert by_kind["shared_groups"]["ids"] == ["im7", "im30"]
    assert by_kind["identical"]["ids"] == ["im3", "im50"]
    assert by_kind["identical"]["splits"] == ["train", "test"]
    assert by_kind["near_identical"]["ids"] == ["im5", "im52"]
    assert by_kind["copies"]["ids"] == ["im20", "im51"]


@pytest.mark.parametrize("kind", ["shared_groups", "identical", "near_identical"])
def test_each_kind_is_refused_where_the_policy_says_so(kind: str) -> None:
    images = scenes(20).copy()
    groups = [f"g{i}" for i in range(20)]
    if kind == "shared_groups":
        groups[15] = groups[2]
    else:
        images[15] = images[2]
        images[15, 0, 0, 0] ^= 1 if kind == "near_identical" else 0
    splits = np.array(["train"] * 10 + ["val"] * 10)
    ids = [f"im{i}" for i in range(20)]
    strict = WARN.model_copy(update={kind: "refuse"})
    with pytest.raises(UserError, match=naming(f"{kind}: 1", "'im2'", "'im15'", "data.audit")):
        audited(strict, ids, groups, splits, signed(images)).act("findings.csv")
    found = audited(WARN, ids, groups, splits, signed(images))
    found.act("findings.csv")
    assert found.counts[kind] == 1


@pytest.mark.parametrize("masks", [False, True], ids=["labels", "masks"])
def test_copies_with_several_labels_are_contradictions_also_within_a_group(masks: bool) -> None:
    images = scenes(12).copy()
    images[4] = images[5] = images[3]  # one group, one side; 3 and 4 agree, 5 does not
    images[8] = images[7]  # two groups, one side, one label
    groups = ["g" if i in (3, 4, 5) else f"g{i}" for i in range(12)]
    labels = ["ill" if i in (5, 7, 8) else "well" for i in range(12)]
    of_label = {"ill": np.ones((32, 32), np.uint8), "well": np.zeros((32, 32), np.uint8)}
    seen = Signatures()
    seen.add(images, np.stack([of_label[label] for label in labels]) if masks else None)
    splits, ids = np.array(["train"] * 9 + ["test"] * 3), [f"im{i}" for i in range(12)]
    found = audited(Audit(), ids, groups, splits, seen, () if masks else labels)
    assert (found.counts["contradictory"], found.counts["copies"]) == (1, 2)
    assert found.cases["contradictory"] == 3
    with pytest.raises(
        UserError, match=naming("contradictory: 1", "'im3'", "'im5'", "f.csv")
    ) as caught:
        found.act("f.csv")
    assert "copies: " not in str(caught.value)
    rows = [row for row in found.rows() if row[0] == "contradictory"]
    assert [row[2] for row in rows] == ["im3", "im4", "im5"]
    assert rows[0][5] == rows[1][5] != rows[2][5]


def test_digests_are_of_the_pixels() -> None:
    images = scenes(3)
    assert signed(images).digests[1] == hashlib.sha256(images[1].tobytes()).digest()
