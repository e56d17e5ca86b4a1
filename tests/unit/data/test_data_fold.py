"""Cross-validation: cases dealt to folds, and each turn a prepared set of its own."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import naming
from shipped import shipped

from edgeward.core.errors import UserError
from edgeward.core.io import sha256
from edgeward.data import fold, stage
from edgeward.data.config import DataConfig
from edgeward.data.split import fold_names, of_fold, stratified_group_split
from edgeward.data.store import SPLITS, open_prepared, sides


def config(name: str, k: int) -> DataConfig:
    calibration = {"n": 20, "min_per_class": 1}
    values: dict[str, Any] = shipped("data", name)
    return DataConfig(
        **values | {"split": {"kind": "folds", "folds": k}, "calibration": calibration}
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 10), st.integers(0, 99))
def test_every_case_is_tested_once_and_validates_once(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.arange(300) // rng.integers(1, 4)
    labels = groups % 3
    names = fold_names(k)
    dealt = stratified_group_split(labels, groups, [1 / k] * k, seed, ["a", "b", "c"], names)
    assert sides(dealt) == names
    turns = np.array([of_fold(dealt, i) for i in range(k)])
    assert np.all((turns == "test").sum(axis=0) == 1)
    assert np.all((turns == "val").sum(axis=0) == 1)
    assert np.all((turns == "train").sum(axis=0) == k - 2)
    for turn in turns:
        for split in SPLITS:
            assert not {*groups[turn == split]} & {*groups[turn != split]}
    for label in range(3):  # stratified
        held = [np.sum((dealt == name) & (labels == label)) for name in names]
        assert max(held) - min(held) <= 6


@pytest.mark.parametrize("name", ["phantom_tiny", "phantom_masks_tiny", "phantom3d_tiny"])
def test_a_turn_is_a_prepared_set_that_shares_the_arrays(name: str, tmp_path: Path) -> None:
    cfg, root = config(name, 3), tmp_path / "prepare"
    metrics = stage.run(cfg, out=root, data_root=None)
    whole = open_prepared(root)
    assert sides(whole.splits) == ["fold0", "fold1", "fold2"]
    assert metrics["n_fold1"] == np.sum(whole.splits == "fold1")
    assert len(whole.calibration) == whole.card.calibration.n == 0
    assert [*whole.card.counts] == ["fold0", "fold1", "fold2"]
    cards = []
    for k in range(3):
        found = fold.run(cfg, prepared=root, fold=k, out=root / f"fold{k}")
        data = open_prepared(root / f"fold{k}")
        np.testing.assert_array_equal(data.splits, of_fold(whole.splits, k))
        np.testing.assert_array_equal(data.groups, whole.groups)
        np.testing.assert_array_equal(data.images, whole.images)
        assert {*data.columns} == {*whole.columns}
        assert set(data.calibration) <= set(data.indices("train"))
        card = data.card
        assert card.rare_classes == whole.card.rare_classes
        assert {name: found[f"n_{name}"] for name in SPLITS} == {
            name: len(data.indices(name)) for name in SPLITS
        }
        for split in SPLITS:
            assert card.groups[split] == len(set(data.groups[data.indices(split)]))
        assert card.hashes["split.csv"] == sha256(root / f"fold{k}" / "split.csv")
        assert card.hashes["images.npy"] == whole.card.hashes["images.npy"]
        cards.append(card)
    assert len({card.hashes["split.csv"] for card in cards}) == 3
    if name == "phantom_tiny":
        train = open_prepared(root / "fold2")
        images = train.images[train.indices("train")] / 255
        np.testing.assert_allclose(cards[2].channel_mean, images.mean((0, 1, 2)), atol=1e-9)
        np.testing.assert_allclose(cards[2].channel_std, images.std((0, 1, 2)), atol=1e-9)


def test_the_facts_of_a_turn_are_those_of_its_training_cases(tmp_path: Path) -> None:
    cfg = config("phantom3d_tiny", 3)
    stage.run(cfg, out=tmp_path / "prepare", data_root=None)
    fold.run(cfg, prepared=tmp_path / "prepare", fold=0, out=tmp_path / "prepare" / "fold0")
    data = open_prepared(tmp_path / "prepare" / "fold0")
    total, held = 0.0, np.zeros(data.n_labels)
    for i in data.indices("train"):
        image, mask = data.case(int(i))
        total += float(image.astype(float).sum())
        held += np.bincount(mask.ravel(), minlength=data.n_labels)
    np.testing.assert_allclose(data.card.train_prior, held / held.sum())
    np.testing.assert_allclose(data.card.channel_mean, [total / held.sum() / 255])
    with (tmp_path / "prepare" / "fold0" / "split.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    for split in SPLITS:
        assert data.card.strata is not None
        assert sum(data.card.strata[split].values()) == sum(row["split"] == split for row in rows)


def test_more_folds_than_a_class_has_groups_are_refused(tmp_path: Path) -> None:
    cfg = config("phantom_tiny", 10)
    few = cfg.model_copy(
        update={"source": cfg.source.model_copy(update={"n_train": 20, "n_val": 10, "n_test": 10})}
    )
    with pytest.raises(UserError, match=naming("class", "fold0", "fold9")):
        stage.run(few, out=tmp_path / "prepare", data_root=None)
    assert {p.name for p in (tmp_path / "prepare").iterdir()} == {"findings.csv"}
