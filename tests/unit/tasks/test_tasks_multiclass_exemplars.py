"""Pruning-identified exemplars on populations whose exemplars are known."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr

from edgeward.tasks.multiclass.contact import contact_sheet
from edgeward.tasks.multiclass.exemplars import (
    exemplars,
    halves,
    modal_label,
    per_class,
    rank_correlation,
)

CLASSES = ["common", "other", "rare"]


Votes = tuple[np.ndarray, np.ndarray]


def votes(decisions: np.ndarray, sure: float = 0.8) -> Votes:
    """Return decisions (K, n) with probabilities that agree with them."""
    rest = (1 - sure) / 2
    p = np.where(decisions[:, :, None] == np.arange(3), sure, rest)
    return decisions, p


def call(dense: Votes, compressed: Votes, labels: np.ndarray) -> dict[str, Any]:
    return exemplars(dense, compressed, labels, CLASSES, share=0.05, splits=20, seed=0)


def test_the_modal_label_is_the_majority_and_probability_breaks_ties() -> None:
    decisions = np.array([[0, 0], [1, 1], [1, 0], [0, 0]])
    p = np.full((4, 2, 3), 0.2)
    p[:, 0, 1] = 0.5  # the tie of the first image goes to class 1
    np.testing.assert_array_equal(modal_label(decisions, p), [1, 0])


def test_rank_correlation_is_scipys() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, (20, 7)) / 3, rng.integers(0, 4, (20, 7)) / 3
    a[:, 0], b[:, 1] = 2, 2  # no constant row, which scipy leaves undefined
    expected = [spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(rank_correlation(a, b), expected, atol=1e-12)
    assert rank_correlation(np.ones((1, 3)), np.array([[1.0, 2, 3]])) == [0.0]


def test_halves_are_disjoint_and_equal() -> None:
    for a, b in halves(7, splits=10, seed=1):
        assert (len(a), len(b)) == (3, 3)
        assert not set(a) & set(b)


def test_a_population_of_which_compression_forgets_ten_rare_images() -> None:
    """200 images; all networks agree but for 10 rare ones, which the compressed take for common."""
    labels = np.repeat([0, 1, 2], [120, 60, 20])
    dense = np.tile(labels, (6, 1))
    compressed = dense.copy()
    compressed[:, 185:195] = 0
    compressed[0, :10] = 1  # one seed's whim on other images moves no mode
    found = call(votes(dense), votes(compressed), labels)
    modal = found["modal"]
    assert sorted(modal["images"]) == list(range(185, 195))
    assert modal["rate"] == 10 / 200
    assert [row["count"] for row in modal["per_class"]] == [0, 0, 10]
    assert modal["per_class"][2]["rate"] == 0.5
    assert modal["halves"]["null"] == 0.0
    assert modal["halves"]["per_class"][2]["rate"] == 0.5
    assert set(modal["labels"]["before"]) == {2}
    assert set(modal["labels"]["after"]) == {0}
    assert sorted(found["rank"]["images"]) == list(range(185, 195))
    assert found["rank"]["halves"]["null"] == 0.0


def test_churn_alone_is_the_null() -> None:
    """Networks that decide by chance on a third of the images: compression adds nothing to that."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 3000)

    def population() -> Votes:
        decisions = np.tile(labels, (8, 1))
        decisions[:, :1000] = rng.integers(0, 3, (8, 1000))
        return votes(decisions)

    found = call(population(), population(), labels)["modal"]["halves"]
    assert found["null"] > 0.1
    assert found["compressed"] == pytest.approx(found["null"], abs=0.01)


def test_a_class_without_images_has_no_rate() -> None:
    rows = per_class(np.array([True, False]), np.array([0, 0]), CLASSES)
    assert rows[0]["rate"] == 0.5
    assert np.isnan(rows[1]["rate"])


def test_the_contact_sheet_shows_the_images_themselves() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 40, 30, 3), dtype=np.uint8)
    labels = {"true": [2, 2], "before": [2, 2], "after": [0, 1]}
    found = {
        "modal": {"images": [4, 1], "labels": labels},
        "rank": {"images": [1, 3], "labels": {key: value[::-1] for key, value in labels.items()}},
    }
    sheet = contact_sheet(found, lambda i: images[i], CLASSES, count=3)
    assert [row["index"] for row in sheet] == [4, 1, 3]
    assert (sheet[0]["true"], sheet[0]["before"], sheet[0]["after"]) == ("rare", "rare", "common")
    head, data = sheet[1]["picture"].split(",")
    assert head == "data:image/webp;base64"
    np.testing.assert_array_equal(Image.open(io.BytesIO(base64.b64decode(data))), images[1])
    assert len(contact_sheet(found, lambda i: images[i, ..., :1], CLASSES, count=1)) == 1
