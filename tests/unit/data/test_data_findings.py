"""Several findings per image: tables in the layouts of publishers, policies, splits, and what is refused."""

from __future__ import annotations

import csv
import hashlib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from findings import prepare
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from refusals import naming
from shipped import shipped

from edgeward.core.errors import UserError
from edgeward.data import fold, stage
from edgeward.data.config import MULTI_LABEL, DataConfig, TableSource
from edgeward.data.listing import Listing, Request
from edgeward.data.sources import medmnist, table
from edgeward.data.split import stratified_group_split
from edgeward.data.store import SPLITS, open_prepared

ROOT = "films"


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def films(root: Path, header: list[str], rows: Iterable[list[Any]], images: list[str]) -> Path:
    """Write a table, and the images that it names."""
    for number, name in enumerate(images):
        picture(root / ROOT / name, number)
    with (root / ROOT / "table.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])
    return root


def listed(root: Path, **keys: Any) -> Listing:
    source = TableSource.model_validate(
        {"kind": "table", "path": ROOT, "csv": "table.csv", "channels": 1, **keys}
    )
    return table.open_source(Request(source, 32, 0, root))


def held(listing: Listing) -> dict[str, list[int]]:
    assert listing.findings is not None
    values = listing.findings.values.tolist()
    return dict(zip(listing.ids, values, strict=True))


def test_chest_xray14(tmp_path: Path) -> None:
    """One column of findings with bars between them; images in several folders, named without them."""
    films(
        tmp_path,
        ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age"],
        [["1_0.png", "Hernia|Mass", 0, 1, 58], ["2_0.png", "No Finding", 0, 2, 81],
         ["2_1.png", "Mass", 1, 2, 82]],
        ["images_001/images/1_0.png", "images_002/images/2_0.png", "images_002/images/2_1.png"],
    )  # fmt: skip
    found = listed(
        tmp_path, image="Image Index", images=["images_001", "images_002"], labels="Finding Labels",
        group="Patient ID", columns=["Patient Age"],
    )  # fmt: skip
    assert found.findings is not None
    assert found.findings.names == ["Hernia", "Mass"]
    assert held(found) == {"1_0.png": [1, 1], "2_0.png": [0, 0], "2_1.png": [0, 1]}
    assert found.groups == ["1", "2", "2"]
    assert found.columns["Patient Age"] == ["58", "81", "82"]
    assert found.batches is not None
    assert sum(len(batch.rows) for batch in found.batches()) == 3


CHEXPERT = ["Path", "Sex", "Edema", "Pneumonia"]
FILMS = [f"train/patient0000{i}/study1/view1_frontal.jpg" for i in (1, 2, 3)]
ROWS = [[FILMS[0], "F", "1.0", "-1.0"], [FILMS[1], "M", "", "1.0"], [FILMS[2], "F", "0.0", ""]]


@pytest.mark.parametrize(
    ("uncertain", "missing", "values"),
    [
        ("ignore", "zero", [[1, -1], [0, 1], [0, 0]]),
        ("one", "ignore", [[1, 1], [-1, 1], [0, -1]]),
        ("zero", "one", [[1, 0], [1, 1], [0, 1]]),
    ],
)
def test_chexpert(tmp_path: Path, uncertain: str, missing: str, values: list[list[int]]) -> None:
    """A column for each finding with 1, 0, -1 (uncertain) and nothing; all images have the same name in another folder."""
    films(tmp_path, CHEXPERT, ROWS, FILMS)
    found = listed(
        tmp_path, image="Path", findings=["Edema", "Pneumonia"], group_pattern=r"(patient\d+)/",
        uncertain=uncertain, missing=missing,
    )  # fmt: skip
    assert list(held(found).values()) == values
    assert found.groups == ["patient00001", "patient00002", "patient00003"]
    assert found.notes["unknown_values"] == sum(v == -1 for row in values for v in row)


def test_what_counts_as_nothing_has_to_be_said(tmp_path: Path) -> None:
    films(tmp_path, CHEXPERT, ROWS, FILMS)
    found = listed(tmp_path, image="Path", findings=["Edema", "Pneumonia"])
    assert not found.ids
    reasons = dict(found.invalid)
    assert "uncertain (-1) in column Pneumonia" in reasons[FILMS[0]]
    assert "data.source.uncertain" in reasons[FILMS[0]]
    assert "data.source.missing" in reasons[FILMS[1]]


@pytest.mark.parametrize(("repeated", "values"), [("any", [1, 1]), ("majority", [1, 0])])
def test_vindr(tmp_path: Path, repeated: str, values: list[int]) -> None:
    """Three readers of each image; names without a suffix, of DICOM files or others."""
    readers = [["a", "R1", 1, 0], ["a", "R2", 1, 1], ["a", "R3", 0, 0]]
    films(tmp_path, ["image_id", "rad_id", "Mass", "Nodule"], readers, ["train/a.png"])
    keys: dict[str, Any] = {
        "image": "image_id", "images": ["train"], "suffix": ".png", "findings": ["Mass", "Nodule"],
    }  # fmt: skip
    assert held(listed(tmp_path, **keys, repeated=repeated)) == {"a.png": values}
    refused = listed(tmp_path, **keys)
    assert refused.invalid == [
        ("a.png", "3 rows, which contradict each other in Mass and Nodule (data.source.repeated)")
    ]


def test_padchest(tmp_path: Path) -> None:
    """A printed list of Python in a cell; images in a zip; findings that are not asked for are dropped and counted."""
    rows = [
        ["a.png", 1, "['cardiomegaly', 'pleural effusion']"],
        ["b.png", 2, "['normal']"],
        ["c.png", 3, "['scoliosis']"],
    ]
    films(tmp_path, ["ImageID", "PatientID", "Labels"], rows, ["a.png", "b.png", "c.png"])
    with zipfile.ZipFile(tmp_path / ROOT / "0.zip", "w") as archive:
        for name in ("a.png", "b.png", "c.png"):
            archive.write(tmp_path / ROOT / name, name)
            (tmp_path / ROOT / name).unlink()
    keys: dict[str, Any] = {
        "image": "ImageID", "images": ["0.zip"], "labels": "Labels", "separator": ",", "group": "PatientID",
        "findings": ["cardiomegaly", "pleural effusion"],
    }  # fmt: skip
    found = listed(tmp_path, **keys, others="drop")
    assert list(held(found).values()) == [[1, 1], [0, 0], [0, 0]]
    assert found.notes["labels_dropped"] == {"scoliosis": 1}
    assert dict(listed(tmp_path, **keys).invalid).keys() == {"c.png"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["a.png", "maybe"], "'maybe' in column Mass"),
        (["lost.png", "1"], "no such file"),
    ],
)
def test_unusable_rows_are_named(tmp_path: Path, row: list[str], reason: str) -> None:
    films(tmp_path, ["image", "Mass", "Nodule"], [[*row, "0"]], ["a.png"])
    ((name, why),) = listed(tmp_path, findings=["Mass", "Nodule"]).invalid
    assert name == row[0]
    assert reason in why


def test_a_finding_and_none_at_once_is_named(tmp_path: Path) -> None:
    rows = [["a.png", "Mass|No Finding"], ["b.png", "Mass|Nodule"]]
    films(tmp_path, ["image", "labels"], rows, ["a.png", "b.png"])
    assert listed(tmp_path, labels="labels").invalid == [
        ("a.png", "'No Finding' and findings at once")
    ]


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ({"findings": ["Mas", "Nodule"]}, ["'Mas'", "data.source.findings[0]", "Mass"]),
        ({"findings": ["Mass", "Nodule"], "group": "patient"}, ["'patient'", "data.source.group"]),
        ({"findings": ["Mass", "Nodule"], "images": ["no"]}, ["no is missing", "data.source.images"]),
        ({"findings": ["Mass"]}, ["two or more", "'Mass'"]),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_are_refused(
    tmp_path: Path, keys: dict[str, Any], parts: list[str]
) -> None:
    films(tmp_path, ["image", "Mass", "Nodule"], [["a.png", 1, 0]], ["a.png"])
    with pytest.raises(UserError, match=naming(*parts)):
        listed(tmp_path, **keys)


# --- Splits ---------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_every_finding_comes_near_its_share(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(300), rng.integers(1, 4, 300))
    findings = (rng.random((300, 6)) < [0.4, 0.2, 0.1, 0.06, 0.04, 0.02])[groups]
    rows = [np.flatnonzero(findings[:, k]) for k in range(6)]
    if min(len(set(groups[r])) for r in rows) < 3:
        return
    names = [f"f{k}" for k in range(6)]
    splits = stratified_group_split(findings, groups, (0.6, 0.15, 0.25), seed, names)
    assert all(len(set(splits[groups == g].tolist())) == 1 for g in range(300))
    for side, share in zip(SPLITS, (0.6, 0.15, 0.25), strict=True):
        mine = splits == side
        assert abs(mine.sum() - share * len(groups)) <= 0.05 * len(groups)
        for k, of in enumerate(rows):
            assert findings[mine, k].any()
            assert abs(findings[mine, k].sum() - share * len(of)) <= 6 + 0.1 * len(of)


def test_one_class_each_is_dealt_as_ever() -> None:
    """Findings that exclude one another are classes."""
    labels = np.random.default_rng(1).choice(4, 500, p=[0.5, 0.3, 0.15, 0.05])
    groups = np.arange(500)
    names = ["a", "b", "c", "d"]
    as_classes = stratified_group_split(labels, groups, (0.6, 0.2, 0.2), 5, names)
    as_findings = stratified_group_split(
        np.eye(4, dtype=bool)[labels], groups, (0.6, 0.2, 0.2), 5, names
    )
    np.testing.assert_array_equal(as_classes, as_findings)


# --- Prepared -------------------------------------------------------------------------------


def config(rows: int, **changes: Any) -> DataConfig:
    del rows
    values: dict[str, Any] = {
        "name": "films", "task": "multilabel", "image_size": 32,
        "source": {
            "kind": "table", "path": ROOT, "csv": "table.csv", "channels": 1,
            "findings": ["Mass", "Nodule", "Hernia"], "group": "patient",
        },
        "split": {"kind": "stratified"}, "rare": {"rule": "prevalence"}, "calibration": {"n": 8, "min_per_class": 1},
    }  # fmt: skip
    return DataConfig.model_validate(values | changes)


def study(tmp_path: Path, hernias: int) -> Path:
    """Thirty patients with an image each, the first ones with a hernia."""
    rows = [[f"{i}.png", f"p{i}", i % 2, int(i % 3 == 0), int(i < hernias)] for i in range(30)]
    header = ["image", "patient", "Mass", "Nodule", "Hernia"]
    return films(tmp_path, header, rows, [f"{i}.png" for i in range(30)])


def test_prepared_findings(tmp_path: Path) -> None:
    study(tmp_path, 9)
    stage.run(config(30), out=tmp_path / "out", data_root=tmp_path)
    data = open_prepared(tmp_path / "out")
    assert data.classes == ["Mass", "Nodule", "Hernia"]
    assert data.findings is not None
    assert data.findings.sum(axis=0).tolist() == [15, 10, 9]
    np.testing.assert_array_equal(data.held(np.arange(30)), data.findings == 1)
    train = data.findings[data.indices("train")].astype(int)
    assert data.card.cooccurrence == (train.T @ train).tolist()
    assert data.card.strata is not None
    assert sum(data.card.strata["train"].values()) == len(train)
    for side in SPLITS:
        assert min(data.card.counts[side].values()) > 0


def test_scarce_findings_are_refused_or_left_out(tmp_path: Path) -> None:
    study(tmp_path, 2)
    with pytest.raises(
        UserError, match=naming("1 of 3 findings", "Hernia: 2 cases", "data.scarce")
    ):
        stage.run(config(30), out=tmp_path / "out", data_root=tmp_path)
    stage.run(config(30, scarce="leave_out"), out=tmp_path / "out", data_root=tmp_path)
    data = open_prepared(tmp_path / "out")
    assert data.classes == ["Mass", "Nodule"]
    assert data.card.left_out == {"Hernia": 2}
    assert data.card.n_images == 30


@pytest.mark.parametrize("policy", ["refuse", "warn"])
def test_copies_with_other_findings_contradict_each_other(tmp_path: Path, policy: str) -> None:
    study(tmp_path, 9)
    folder = tmp_path / ROOT
    (folder / "4.png").write_bytes((folder / "2.png").read_bytes())
    (folder / "6.png").write_bytes((folder / "2.png").read_bytes())
    audit = {"identical": "group", "contradictory": policy}
    cfg = config(30, audit=audit)
    if policy == "refuse":
        with pytest.raises(UserError, match=naming("contradictory", "2.png", "data.audit")):
            stage.run(cfg, out=tmp_path / "out", data_root=tmp_path)
        return
    stage.run(cfg, out=tmp_path / "out", data_root=tmp_path)
    assert open_prepared(tmp_path / "out").card.leakage.contradictory == 1


def test_findings_are_for_the_task_that_takes_them(tmp_path: Path) -> None:
    study(tmp_path, 9)
    with pytest.raises(UserError, match=naming("'multiclass'", "gives no classes", "data.task")):
        stage.run(config(30, task="multiclass"), out=tmp_path / "out", data_root=tmp_path)


def test_the_phantom_has_what_is_asked_for(tmp_path: Path) -> None:
    data = open_prepared(prepare(tmp_path / "a"))
    wanted = shipped("data", "phantom_findings_tiny")["source"]["prevalence"]
    assert data.findings is not None
    assert data.card.synthetic
    for k, (name, share) in enumerate(wanted.items()):
        assert data.findings[:, k].mean() == pytest.approx(share, abs=0.05), name
    several = data.findings.sum(axis=1)
    assert np.unique(several).tolist()[:3] == [0, 1, 2]
    for g in np.unique(data.groups):  # all views of a lesion show the same
        assert len(np.unique(data.findings[data.groups == g], axis=0)) == 1
    again = open_prepared(prepare(tmp_path / "b"))
    assert again.card.hashes == data.card.hashes


def test_a_turn_of_folds_has_findings(tmp_path: Path) -> None:
    overrides = ("data.split={kind: folds, folds: 3}",)
    whole = prepare(tmp_path / "whole", *overrides)
    cfg = DataConfig.model_validate(shipped("data", "phantom_findings_tiny", *overrides))
    fold.run(cfg, prepared=whole, fold=1, out=whole / "fold1")
    turn = open_prepared(whole / "fold1")
    assert turn.findings is not None
    train = turn.findings[turn.indices("train")].astype(int)
    assert turn.card.cooccurrence == (train.T @ train).tolist()
    assert turn.card.counts["train"] == dict(
        zip(turn.classes, train.sum(axis=0).tolist(), strict=True)
    )


def test_medmnist_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = medmnist.catalogue()
    several = [n for n, e in info.items() if "multi-label" in e["task"] and not n.endswith("3d")]
    assert tuple(several) == MULTI_LABEL
    rng, path = np.random.default_rng(0), tmp_path / "medmnist" / "chestmnist_64.npz"
    path.parent.mkdir()
    arrays: dict[str, Any] = {}
    for split in SPLITS:
        arrays[f"{split}_images"] = rng.integers(0, 256, (20, 64, 64), dtype=np.uint8)
        arrays[f"{split}_labels"] = (rng.random((20, 14)) < 0.3).astype(np.uint8)
    np.savez(path, **arrays)
    info["chestmnist"]["MD5_64"] = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(medmnist, "catalogue", lambda: info)
    source = shipped("data", "pneumoniamnist")["source"] | {"dataset": "chestmnist"}
    cfg = config(0, source=source | {"size": 64}, split={"kind": "given"})
    found = stage.open_listing(cfg, tmp_path)
    assert found.findings is not None
    assert found.findings.names[:2] == ["atelectasis", "cardiomegaly"]
    stored = np.concatenate([arrays[f"{split}_labels"] for split in SPLITS])
    np.testing.assert_array_equal(found.findings.values, stored)
