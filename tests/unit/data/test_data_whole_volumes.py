"""Volumes that are labelled as a whole: one shape, from the drawn set, MedMNIST, NIfTI files and DICOM series."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import naming
from shipped import shipped
from volume_factory import blob, write_nifti, write_series

from edgeward.core.errors import UserError
from edgeward.data import stage
from edgeward.data.config import DataConfig
from edgeward.data.listing import Request
from edgeward.data.sources import phantom3d
from edgeward.data.store import Prepared, open_prepared, to_input
from edgeward.data.volumes.stream import placed


def prepared(out: Path, content: dict[str, Any], root: Path | None = None) -> Prepared:
    stage.run(DataConfig.model_validate(content), out=out, data_root=root)
    return open_prepared(out)


def test_the_centre_stays_the_centre() -> None:
    image = np.arange(2 * 5 * 6 * 4).reshape(2, 5, 6, 4) + 1
    out = placed(image, (3, 8, 4))
    np.testing.assert_array_equal(out[:, :, 1:7], image[:, 1:4])
    assert not out[:, :, [0, 7]].any()
    np.testing.assert_array_equal(placed(image, (5, 6, 4)), image)


def test_drawn_volumes_as_a_whole(tmp_path: Path) -> None:
    content = shipped("data", "phantom3d_lesion_tiny")
    data = prepared(tmp_path, content)
    assert (data.spatial_dims, data.volumes, data.masks) == (3, None, None)
    assert data.images.shape == (48, 24, 32, 32, 1)
    assert data.images.dtype == np.uint8
    assert data.card.image_shape == [24, 32, 32, 1]
    assert (data.classes, data.card.rare_classes) == (["healthy", "lesion"], ["lesion"])
    cfg = DataConfig.model_validate(content)
    listing = phantom3d.open_source(Request(cfg.source, 0, cfg.seed, None))
    assert listing.read is not None
    for row in range(0, 48, 7):
        raw = listing.read(row)
        expected = np.clip((raw.image[0].transpose(2, 1, 0) + 160) / 400 * 255, 0, 255)
        np.testing.assert_allclose(data.images[row, ..., 0], expected, atol=0.63)
        assert raw.mask is not None
        assert data.labels[row] == (raw.mask == 2).any()
    train = to_input(data.images[data.indices("train")])
    assert train.shape == (24, 1, 24, 32, 32)
    np.testing.assert_allclose(data.card.channel_mean, train.mean() / 255)
    np.testing.assert_allclose(data.card.channel_std, train.std() / 255, rtol=1e-6)


def test_what_is_cut_is_counted(tmp_path: Path) -> None:
    content = shipped("data", "phantom3d_lesion_tiny", "data.volume.shape=[20,40,32]")
    data = prepared(tmp_path / "a", content)
    assert data.card.noted == {"cut": 48}
    whole = prepared(tmp_path / "b", shipped("data", "phantom3d_lesion_tiny"))
    np.testing.assert_array_equal(data.images[:, :, 4:36], whole.images[:, 2:22])
    assert not data.images[:, :, :4].any()


def files(root: Path, kind: str) -> list[tuple[str, str]]:
    """Write six volumes of two classes; return path and label of each."""
    written = []
    for number in range(6):
        values, _ = blob((20, 18, 16), number)
        label = ("ill", "normal")[number % 2]
        if kind == "nifti":
            path = root / "mine" / label / f"p{number // 2}_{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_nifti(path, values, np.diag([2.0, 2.0, 2.0, 1.0]))
        else:
            path = root / "mine" / label / f"p{number // 2}_{number}"
            path.mkdir(parents=True)
            write_series(path, np.rint(values).astype(np.int16))
        written.append((str(path.relative_to(root / "mine")), label))
    return written


def own(**source: Any) -> dict[str, Any]:
    content = shipped("data", "volume_folder")
    content["volume"] |= {"shape": [16, 16, 16], "spacing": [2.0, 2.0, 2.0], "min_side": 8}
    content["source"] |= {"path": "mine"} | source
    content["split"] = {"kind": "stratified", "train": 0.34, "val": 0.33, "test": 0.33}
    return content | {
        "rare": {"rule": "named", "classes": ["ill"]}, "calibration": {"n": 1, "min_per_class": 0},
        "audit": {"near": "off"} if "near" in content["audit"] else content["audit"],
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_volumes_of_your_own_by_folder_or_table(tmp_path: Path, kind: str) -> None:
    written = files(tmp_path, kind)
    by_folder = prepared(tmp_path / "a", own(files=kind), tmp_path)
    assert by_folder.classes == ["ill", "normal"]
    assert by_folder.images.shape == (6, 16, 16, 16, 1)
    table = tmp_path / "mine" / "cases.csv"
    with table.open("w", newline="") as handle:
        rows = ([path, label, path.split("/")[1][:2], "41"] for path, label in written)
        csv.writer(handle).writerows([["path", "label", "group", "age"], *rows])
    source = {"files": kind, "layout": "csv", "csv": "cases.csv", "columns": ["age"]}
    by_table = prepared(tmp_path / "b", own(**source), tmp_path)
    assert len(np.unique(by_table.groups)) == 3
    assert set(by_table.columns["age"]) == {"41"}
    order = np.argsort([path for path, _ in written])
    np.testing.assert_array_equal(by_table.images[order], by_folder.images)


def test_a_table_that_names_no_case_is_refused(tmp_path: Path) -> None:
    files(tmp_path, "dicom")
    (tmp_path / "mine" / "empty").mkdir()
    lines = "path,label\nempty,ill\nnothing,normal\nill/p0_0/1.dcm,ill\n"
    (tmp_path / "mine" / "cases.csv").write_text(lines)
    source = {"files": "dicom", "layout": "csv", "csv": "cases.csv", "classes": ["ill", "normal"]}
    with pytest.raises(UserError, match=naming("3 volumes", "empty", "holds no DICOM", "nothing")):
        prepared(tmp_path / "out", own(**source), tmp_path)


def test_medmnist_volumes(tmp_path: Path, shared_data: Path) -> None:
    data = prepared(tmp_path, shipped("data", "adrenalmnist3d"), shared_data)
    assert data.images.shape == (1584, 28, 28, 28, 1)
    published = np.load(shared_data / "medmnist" / "adrenalmnist3d.npz")
    for split in ("train", "val", "test"):
        rows = data.indices(split)
        np.testing.assert_array_equal(data.images[rows][..., 0], published[f"{split}_images"])
        np.testing.assert_array_equal(data.labels[rows], published[f"{split}_labels"][:, 0])


def test_volumes_of_medmnist_have_two_sizes() -> None:
    content = shipped("data", "adrenalmnist3d")
    content["source"]["size"] = 128
    with pytest.raises(ValueError, match=naming("adrenalmnist3d", "28 or 64")):
        DataConfig.model_validate(content)
