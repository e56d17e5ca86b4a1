"""NIfTI pairs: the Decathlon's layout, folders of one's own, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from volume_factory import blob, config, write_nifti

from edgeward.core.errors import UserError
from edgeward.data import stage
from edgeward.data.store import open_prepared
from edgeward.data.volumes import grid

AFFINE = np.array([[-1.0, 0, 0, 9], [0, 0, 2.0, -5], [0, -1.5, 0, 30], [0, 0, 0, 1]])
SHAPE = (20, 18, 24)
VOLUME = {"spacing": [1.5, 2.0, 1.0], "min_side": 8}
FEW = {"n": 4, "min_per_class": 1}


def pairs(root: Path, images: str = "images", masks: str = "masks", n: int = 8) -> Path:
    for i in range(n):
        image, mask = blob(SHAPE, i)
        write_nifti(root / images / f"p{i // 2}_{i}.nii.gz", image, AFFINE)
        write_nifti(root / masks / f"p{i // 2}_{i}.nii.gz", mask, AFFINE)
    return root


def stored(path: Path, canonical: bool = False) -> np.ndarray:
    """Return what a file holds, as it lies there or along the axes of the patient."""
    image = nib.Nifti1Image.from_filename(path)
    return np.asarray((nib.as_closest_canonical(image) if canonical else image).dataobj)


def nifti(root: Path, **changes: Any) -> Any:
    source = {"path": root.name, "labels": {1: "box", 2: "corner"}} | changes.pop("source", {})
    return config("nifti", source=source, volume=VOLUME, calibration=FEW, **changes)


def refusal(cfg: Any, root: Path, out: Path) -> str:
    with pytest.raises(UserError) as error:
        stage.run(cfg, out=out, data_root=root.parent)
    return str(error.value)


def test_pairs_are_read_turned_and_grouped(tmp_path: Path) -> None:
    root = pairs(tmp_path / "mine")
    cfg = nifti(root, source={"group_pattern": r"^(p\d)_"})
    stage.run(cfg, out=tmp_path / "out", data_root=tmp_path)
    data = open_prepared(tmp_path / "out")
    assert data.classes == ["box", "corner"]
    assert len(set(data.groups)) == 4
    assert data.card.notes["source_orientation"] == {"LIA": 8}
    assert data.spacing(0) == (1.5, 2.0, 1.0)
    image, mask = data.case(5)
    assert data.volumes is not None
    at = data.volumes[5]
    reference = stored(root / "masks/p2_5.nii.gz", canonical=True)
    np.testing.assert_array_equal(mask, reference.transpose(2, 1, 0))
    values = stored(root / "images/p2_5.nii.gz", canonical=True)
    z = (values - values.mean()) / values.std()
    expected = np.clip((z + 4) / 8 * 255, 0, 255).transpose(2, 1, 0)
    np.testing.assert_allclose(image[0], expected, atol=0.13)
    np.testing.assert_array_equal(at.source_affine, AFFINE)
    np.testing.assert_array_equal(grid.to_source(mask, at), stored(root / "masks/p2_5.nii.gz"))


def test_every_unusable_pair_is_named_with_its_reason(tmp_path: Path) -> None:
    root = pairs(tmp_path / "mine", n=19)
    image, mask = blob(SHAPE, 0)
    at = sorted(p.name for p in (root / "images").iterdir())
    bad = [n for n in at if int(n[:-7].split("_")[1]) >= 8]
    images, masks = root / "images", root / "masks"
    whole = (images / bad[0]).read_bytes()
    (images / bad[0]).write_bytes(whole[: len(whole) // 2])
    (images / bad[1]).write_bytes(b"no volume at all")
    write_nifti(masks / bad[2], mask[:-1], AFFINE)
    shifted = AFFINE.copy()
    shifted[0, 3] += 0.5
    write_nifti(masks / bad[3], mask, shifted)
    (masks / bad[4]).unlink()
    (images / bad[5]).unlink()
    write_nifti(masks / bad[6], mask + np.uint8(2), AFFINE)
    write_nifti(images / bad[7], np.where(mask, np.nan, 1.0).astype(np.float32), AFFINE)
    write_nifti(images / bad[8], image[..., 0], AFFINE)
    (masks / bad[9]).write_bytes(b"")
    odd = nib.Nifti1Image(image, AFFINE)
    odd.header["pixdim"][1] = 3.0
    content = bytearray(odd.to_bytes())
    content[80:84] = np.float32(3.0).tobytes()  # pixdim[1], which to_bytes sets from the affine
    (images / bad[10]).unlink()
    (images / bad[10].removesuffix(".gz")).write_bytes(bytes(content))
    reasons = [
        "cannot be read as NIfTI", "cannot be read as NIfTI", "its mask has shape (19, 18, 24)",
        "corners lie 0.5 mm apart", "image without mask", "mask without image",
        "its mask holds 3, 4; data.source.labels knows 0, 1, 2", "not finite",
        "a volume has 3 axes", "its mask " + bad[9] + " is no NIfTI file", "states two spacings",
    ]  # fmt: skip
    cfg = nifti(root)
    text = refusal(cfg.model_copy(update={"invalid": "refuse"}), root, tmp_path / "out")
    assert "image without mask" in text  # known before any file is read
    metrics = stage.run(
        cfg.model_copy(update={"invalid": "skip"}), out=tmp_path / "out", data_root=tmp_path
    )
    assert metrics["n_invalid"] == 11
    told = dict(open_prepared(tmp_path / "out").card.invalid.first)
    for name, reason in zip(bad, reasons, strict=True):
        assert reason in told[name.removesuffix(".nii.gz")], name
    for name in (bad[4], bad[5]):
        for folder in (images, masks):
            (folder / name).unlink(missing_ok=True)
    text = refusal(cfg, root, tmp_path / "new")
    assert "9 volumes of mine cannot be used" in text
    assert "corners lie 0.5 mm apart" in text
    assert not (tmp_path / "new" / "card.json").exists()


def decathlon(root: Path, **changes: Any) -> Any:
    source = {"path": root.name, "labels": None} | changes
    return config("hippocampus", source=source, volume=VOLUME, calibration=FEW)


def write_dataset(root: Path, labels: dict[str, Any], **changes: Any) -> None:
    names = sorted(p.name for p in (root / "imagesTr").iterdir())
    training = [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in names]
    content = {"name": "Box", "labels": labels, "training": training} | changes
    (root / "dataset.json").write_text(json.dumps(content))


def test_a_decathlon_task_is_read_as_published(tmp_path: Path) -> None:
    root = pairs(tmp_path / "Task99", "imagesTr", "labelsTr")
    write_dataset(root, {"0": "background", "1": "Box", "2": "Corner"})
    stage.run(decathlon(root), out=tmp_path / "a", data_root=tmp_path)
    data = open_prepared(tmp_path / "a")
    assert data.classes == ["Box", "Corner"]
    assert len(data.labels) == 8
    write_dataset(root, {"background": 0, "box": 1})
    assert "its mask holds 2; dataset.json knows 0, 1" in refusal(
        decathlon(root), root, tmp_path / "b"
    )
    text = refusal(decathlon(root, labels={1: "a", 3: "b"}), root, tmp_path / "b")
    assert "names [1, 3]" in text
    one = [{"image": "./imagesTr/p0_0.nii.gz", "label": "./labelsTr/none.nii.gz"}]
    write_dataset(root, {"1": "box", "2": "corner"}, training=one)
    assert "none.nii.gz: no such file" in refusal(decathlon(root), root, tmp_path / "b")
    (root / "dataset.json").write_text("{]")
    assert "no dataset.json of the Decathlon" in refusal(decathlon(root), root, tmp_path / "b")
    (root / "dataset.json").unlink()
    assert "name the labels" in refusal(decathlon(root), root, tmp_path / "b")
    (root / "imagesTr" / "._p0_0.nii.gz").write_bytes(b"what a Mac leaves behind")
    named = decathlon(root, labels={1: "found", 2: "found"})
    stage.run(named, out=tmp_path / "c", data_root=tmp_path)
    merged = open_prepared(tmp_path / "c")
    assert merged.classes == ["found"]
    np.testing.assert_array_equal(merged.case(0)[1], data.case(0)[1] > 0)
    (root / "labelsTr").rename(root / "elsewhere")
    assert "no task of the Decathlon" in refusal(named, root, tmp_path / "b")


def test_paths_in_dataset_json_stay_below_the_task(tmp_path: Path) -> None:
    root = pairs(tmp_path / "Task99", "imagesTr", "labelsTr", n=2)
    one = [{"image": "../../x.nii.gz", "label": "./labelsTr/p0_0.nii.gz"}]
    write_dataset(root, {"1": "box", "2": "corner"}, training=one)
    assert "leads out of" in refusal(decathlon(root), root, tmp_path / "b")


def test_a_fourth_axis_is_the_channel(tmp_path: Path) -> None:
    root = pairs(tmp_path / "mine")
    for path in (root / "images").iterdir():
        image = stored(path)
        write_nifti(path, np.stack([image, 300 - 2 * image], -1).astype(np.int16), AFFINE)
    stage.run(nifti(root), out=tmp_path / "out", data_root=tmp_path)
    data = open_prepared(tmp_path / "out")
    assert data.card.image_shape == [*data.case(0)[1].shape, 2]
    assert len(data.card.channel_mean) == 2
    image, mask = data.case(3)
    assert image.shape == (2, *mask.shape)
    np.testing.assert_allclose(image[0] + image[1], 255, atol=0.3)  # each channel is scaled alone


def test_files_stay_below_their_folder(tmp_path: Path) -> None:
    root = pairs(tmp_path / "mine")
    (root / "images/p0_0.nii.gz").rename(tmp_path / "elsewhere.nii.gz")
    (root / "images/p0_0.nii.gz").symlink_to(tmp_path / "elsewhere.nii.gz")
    assert "leads out of" in refusal(nifti(root), root, tmp_path / "out")


def test_hippocampus_is_prepared_from_the_published_files(
    tmp_path: Path, shared_data: Path
) -> None:
    root = tmp_path / "hippocampus_msd"
    found = sorted((shared_data / "hippocampus_msd" / "images").iterdir())[:24]
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
        for path in found:
            shutil.copy(path.parents[1] / folder / path.name, root / folder)
    cfg = config("hippocampus", calibration={"n": 8, "min_per_class": 1})
    stage.run(cfg, out=tmp_path / "out", data_root=tmp_path)
    data = open_prepared(tmp_path / "out")
    voxels = np.zeros(3, int)
    for path in found:
        labels = stored(root / "labels" / path.name).astype(int)
        voxels += np.bincount(labels.reshape(-1), minlength=3)
    assert data.card.pixels is not None
    stated = [
        sum(s[c] for s in data.card.pixels.values())
        for c in ("background", "anterior", "posterior")
    ]
    assert stated == voxels.tolist()
    assert data.card.notes["source_orientation"] == {"RAS": 24}
    image, _ = data.case(0)
    assert abs(image.mean() - 127.5) < 8
