"""DICOM: series to volumes, DICOM-SEG masks, single images to classify, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from refusals import naming
from volume_factory import (
    blob,
    config,
    write_enhanced,
    write_nifti,
    write_segmentation,
    write_series,
)

from edgeward.core.errors import UserError
from edgeward.data import stage
from edgeward.data.door import Door
from edgeward.data.listing import BadImage
from edgeward.data.store import open_prepared
from edgeward.data.volumes import dicom, grid
from edgeward.data.volumes.dicom_seg import read_segmentation

S = float(np.sqrt(0.5))
VOLUME = {"spacing": [3.0, 1.0, 1.0], "min_side": 8, "intensity": {"kind": "zscore", "clip": 4.0, "region": "all"}}  # fmt: skip


def stack(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Values and mask (slices, rows, columns)."""
    return blob((10, 20, 24), seed)


def volume_of(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The volume of all slices in a folder."""
    return dicom.read_series(dicom.files_of(folder.parent, folder.name, Door()), Door())


@pytest.mark.parametrize(
    "orientation",
    [
        (1, 0, 0, 0, 1, 0),
        (0, 1, 0, 0, 0, -1),
        (1, 0, 0, 0, 0, -1),
        (-1, 0, 0, 0, -1, 0),
        (S, S, 0, -S, S, 0),
    ],
)
def test_a_series_agrees_with_simpleitk(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    values, _ = stack()
    write_series(tmp_path, values, orientation=orientation, spacing=(3.0, 1.0, 0.8))
    ours, affine = volume_of(tmp_path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    theirs = reader.Execute()
    np.testing.assert_array_equal(ours[0], sitk.GetArrayFromImage(theirs).T)
    lps = np.diag([-1, -1, 1])
    for index in ((0, 0, 0), (3, 5, 7), (23, 19, 9)):
        place = theirs.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((affine @ [*index, 1])[:3], lps @ place, atol=1e-6)


def test_no_slice_is_read_by_its_name(tmp_path: Path) -> None:
    values, _ = stack()
    write_series(tmp_path, values)
    (tmp_path / "report.txt").write_text("not a slice")
    (tmp_path / ".hidden").write_text("nor this")
    ours, affine = volume_of(tmp_path)
    np.testing.assert_array_equal(ours[0], values.T * 2.0 - 1000)
    np.testing.assert_allclose(np.diag(affine)[:3], [-1, -1, 3])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"PixelSpacing": [1.5, 1.0]}, "several spacings"),
        ({"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]}, "several orientations"),
        ({"ImagePositionPatient": [-20, -30, 52.0]}, "two slices in one place"),
        ({"ImagePositionPatient": [-20, -30, 56.0]}, "several slice distances: 4 mm between"),
        ({"SeriesInstanceUID": "1.9"}, "several series"),
        ({"ImagePositionPatient": None}, "states no ImagePositionPatient"),
        ({"PixelData": b"\0\0" * 200}, "IM035: its pixels cannot be decoded"),
        ({"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB",
          "PixelData": b"\0\0" * 20 * 24 * 3}, "a colour image"),
    ],
)  # fmt: skip
def test_an_inconsistent_series_is_refused(tmp_path: Path, changes: Any, words: str) -> None:
    write_series(tmp_path, stack()[0], **changes)
    with pytest.raises(BadImage, match=words):
        volume_of(tmp_path)


def test_a_missing_slice_and_other_gaps_in_a_folder_are_refused(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "a", stack()[0])
    paths[4].unlink()
    with pytest.raises(BadImage, match=naming("missing", "6 mm", paths[3].name, paths[5].name)):
        volume_of(tmp_path / "a")
    (tmp_path / "a" / "notes").write_bytes(b"no DICOM at all" * 20)
    with pytest.raises(BadImage, match=naming("notes", "DICOM")):
        volume_of(tmp_path / "a")
    write_series(tmp_path / "one", stack()[0][:1])
    with pytest.raises(BadImage, match="one slice only"):
        volume_of(tmp_path / "one")
    write_series(tmp_path / "sizes", stack()[0])
    write_series(tmp_path / "sizes" / "more", stack()[0][:3, :-1], origin=(-20, -30, 70))
    with pytest.raises(BadImage, match=naming("(20, 24)", "(19, 24)")):
        volume_of(tmp_path / "sizes")
    write_series(tmp_path / "tilt", stack()[0])
    for path in (tmp_path / "tilt").iterdir():
        data = pydicom.dcmread(path)
        x, y, z = data.ImagePositionPatient
        data.ImagePositionPatient = [x, y + 0.3 * (z - 40), z]
        data.save_as(path)
    with pytest.raises(BadImage, match="gantry tilt"):
        volume_of(tmp_path / "tilt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadImage, match="holds no image"):
        volume_of(tmp_path / "empty")


def test_a_dicom_segmentation_is_placed_by_its_positions(tmp_path: Path) -> None:
    values, mask = stack()
    paths = write_series(tmp_path / "s", values)
    _, affine = volume_of(tmp_path / "s")
    seg = write_segmentation(tmp_path / "m.dcm", mask, paths)
    shape = values.T.shape
    np.testing.assert_array_equal(read_segmentation(seg, shape, affine, Door()), mask.T)
    with pytest.raises(BadImage, match="another grid"):
        read_segmentation(seg, (shape[0], shape[1], 3), affine, Door())
    with pytest.raises(BadImage, match="another grid"):
        read_segmentation(seg, shape, affine @ np.diag([1, 1, 1.5, 1]), Door())
    with pytest.raises(BadImage, match=naming(paths[0].name, "CT Image Storage", "DICOM-SEG")):
        read_segmentation(paths[0], shape, affine, Door())


def cases(root: Path) -> None:
    for i in range(6):
        values, mask = stack(i)
        paths = write_series(root / "images" / f"c{i}" / "CT", values, patient=f"patient{i // 2}")
        if i % 2:
            write_segmentation(root / "masks" / f"c{i}.dcm", mask, paths)
        else:
            _, affine = volume_of(root / "images" / f"c{i}")
            write_nifti(root / "masks" / f"c{i}.nii.gz", mask.T, affine)


def series(**changes: Any) -> Any:
    source = {"path": "mine", "labels": {1: "box", 2: "corner"}}
    few = {"n": 2, "min_per_class": 1}
    return config("dicom", source=source, volume=VOLUME, calibration=few, **changes)


def test_cases_are_prepared_with_either_mask_and_grouped_by_patient(tmp_path: Path) -> None:
    cases(tmp_path / "mine")
    stage.run(series(), out=tmp_path / "out", data_root=tmp_path)
    data = open_prepared(tmp_path / "out")
    assert data.groups.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.card.notes["source_orientation"] == {"LPS": 6}
    for i in range(6):
        values, mask = stack(i)
        image, labels = data.case(i)
        np.testing.assert_array_equal(labels, mask[:, ::-1, ::-1])
        hu = values[:, ::-1, ::-1] * 2.0 - 1000
        z = (hu - hu.mean()) / hu.std()
        np.testing.assert_allclose(image[0], np.clip((z + 4) / 8 * 255, 0, 255), atol=0.13)
        at = (data.volumes or [])[i]
        np.testing.assert_array_equal(grid.to_source(labels, at), mask.T)


def test_unusable_cases_are_named(tmp_path: Path, shared_data: Path) -> None:
    root = tmp_path / "mine"
    cases(root)
    for i, name in enumerate(("MR_truncated", "rtplan", "waveform_ecg", "US1_UNCI")):
        (root / "images" / f"x{i}").mkdir()
        shutil.copy(shared_data / "dicom" / f"{name}.dcm", root / "images" / f"x{i}" / "a.dcm")
        write_nifti(root / "masks" / f"x{i}.nii", np.zeros((4, 4, 4), np.uint8), np.eye(4))
    source = {"path": "mine", "labels": {1: "box", 2: "corner"}, "group": "case"}
    cfg = config("dicom", source=source, volume=VOLUME, calibration={"n": 2, "min_per_class": 1})
    with pytest.raises(UserError) as error:
        stage.run(cfg, out=tmp_path / "out", data_root=tmp_path)
    for words in (
        "x0: a.dcm: its pixels cannot be decoded", "x1: holds no image (a.dcm: RT Plan Storage",
        "x2: holds no image (a.dcm: 12-lead ECG Waveform Storage", "x3: a.dcm: a colour image",
    ):  # fmt: skip
        assert words in str(error.value)
    stage.run(cfg.model_copy(update={"invalid": "skip"}), out=tmp_path / "out", data_root=tmp_path)
    assert open_prepared(tmp_path / "out").card.invalid.n == 4
    (root / "masks" / "x0.nii").unlink()
    with pytest.raises(UserError, match="x0: image without mask"):
        stage.run(cfg, out=tmp_path / "out", data_root=tmp_path)


def test_frames_of_an_enhanced_object_are_a_series(tmp_path: Path, shared_data: Path) -> None:
    values, _ = stack()
    write_series(tmp_path / "single", values)
    expected, affine = volume_of(tmp_path / "single")
    write_enhanced(tmp_path / "multi" / "all.dcm", sorted((tmp_path / "single").iterdir()))
    ours, placed = volume_of(tmp_path / "multi")
    np.testing.assert_array_equal(ours, expected)
    np.testing.assert_allclose(placed, affine)
    (tmp_path / "none").mkdir()
    shutil.copy(shared_data / "dicom" / "emri_small.dcm", tmp_path / "none")
    with pytest.raises(BadImage, match="10 frames without positions"):
        volume_of(tmp_path / "none")
