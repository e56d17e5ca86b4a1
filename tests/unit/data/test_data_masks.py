"""Segmentation in the plane: masks of the drawn and the published sets, pairs of one's own, pictures."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from refusals import naming
from volume_factory import config

from edgeward.core.errors import UserError
from edgeward.data import stage
from edgeward.data.listing import BadImage
from edgeward.data.montage import montage, outline
from edgeward.data.pixels import Stored, decode, decode_labels, fit_labels
from edgeward.data.store import SPLITS, open_prepared


def small(**changes: Any) -> Any:
    source = {"n_train": 40, "n_val": 20, "n_test": 24}
    few = {"n": 16, "min_per_class": 1}
    return config("phantom_masks", image_size=32, source=source, calibration=few, **changes)


def test_phantom_masks_are_prepared_as_the_contract_says(tmp_path: Path) -> None:
    stage.run(small(), out=tmp_path, data_root=None)
    data = open_prepared(tmp_path)
    assert (data.task, data.spatial_dims, data.n_labels) == ("segmentation", 2, 2)
    assert data.classes == ["lesion"]
    image, mask = data.case(7)
    assert image.dtype == np.float32
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, np.moveaxis(data.images[7], -1, 0))
    assert data.masks is not None
    np.testing.assert_array_equal(mask, data.masks[7])
    assert data.spacing(7) == (1.0, 1.0)
    card = data.card
    assert card.pixels is not None
    assert card.strata is not None
    for split in SPLITS:
        own = data.masks[data.indices(split)]
        assert card.pixels[split] == {
            "background": int((own == 0).sum()), "lesion": int((own == 1).sum()),
        }  # fmt: skip
        assert card.counts[split] == {"lesion": int(own.any((1, 2)).sum())}
        assert sum(card.strata[split].values()) == len(own)
    train = data.masks[data.indices("train")]
    np.testing.assert_allclose(card.train_prior, [1 - train.mean(), train.mean()])
    assert card.rare_classes == []


def test_the_same_images_can_be_classified_or_segmented(tmp_path: Path) -> None:
    stage.run(small(), out=tmp_path / "s", data_root=None)
    stage.run(small(task="multiclass"), out=tmp_path / "c", data_root=None)
    to_segment, to_classify = open_prepared(tmp_path / "s"), open_prepared(tmp_path / "c")
    for name in ("images.npy", "masks.npy", "labels.npy", "split.csv"):
        assert to_segment.card.hashes[name] == to_classify.card.hashes[name]
    assert (to_classify.task, to_classify.n_labels, len(to_classify.classes)) == (
        "multiclass",
        7,
        7,
    )


def test_segmentation_needs_masks(tmp_path: Path) -> None:
    cfg = small()
    no_masks = config("folder", task="segmentation", source={"path": "mine"})
    for name in "ab":
        (tmp_path / "mine" / name).mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "mine" / name / "x.png")
    with pytest.raises(UserError, match=naming("data.task", "'segmentation'", "data.source.masks")):
        stage.run(no_masks, out=tmp_path / "out", data_root=tmp_path)
    stage.run(cfg.model_copy(update={"task": "multiclass"}), out=tmp_path / "o", data_root=None)
    (tmp_path / "o" / "masks.npy").unlink()
    with pytest.raises(UserError, match=naming(tmp_path / "o", "data.source")):
        open_prepared(tmp_path / "o").case(0)


def test_ham10000_masks_lie_on_their_lesions(tmp_path: Path, shared_data: Path) -> None:
    """A part of the real set: the lesion is darker than the skin around it, nearly always."""
    root = tmp_path / "ham10000"
    root.mkdir()
    source = shared_data / "ham10000"
    for path in source.iterdir():
        if path.suffix == ".zip":
            (root / path.name).symlink_to(path)
    lines = (source / "HAM10000_metadata.csv").read_text().splitlines()
    chosen = lines[1::25]
    (root / "HAM10000_metadata.csv").write_text("\n".join([lines[0], *chosen]))
    cfg = config(
        "ham10000_masks", image_size=64, invalid="skip", calibration={"n": 16, "min_per_class": 1}
    )
    stage.run(cfg, out=tmp_path / "out", data_root=tmp_path)
    data = open_prepared(tmp_path / "out")
    assert len(data.labels) == len(chosen)
    darker = []
    for i in range(len(chosen)):
        image, mask = data.case(i)
        assert mask.any()
        if 0.02 < mask.mean() < 0.8:
            darker.append(image[:, mask == 1].mean() < image[:, mask == 0].mean())
    assert np.mean(darker) > 0.9
    assert len({*data.groups[data.indices("train")]} & {*data.groups[data.indices("test")]}) == 0


def write_pairs(root: Path, n: int = 12) -> None:
    """Bright squares at known places; every third mask also holds value 128 in a corner."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for i in range(n):
        image = np.random.default_rng(i).integers(0, 120, (40, 64, 3), dtype=np.uint8)
        mask = np.zeros((40, 64), np.uint8)
        mask[8:24, 10 + i : 30 + i] = 255
        if i % 3 == 0:
            mask[32:40, 48:64] = 128
        image[mask == 255] += 100
        Image.fromarray(image).save(root / "images" / f"p{i // 2}_{i}.png")
        Image.fromarray(mask).save(root / "masks" / f"p{i // 2}_{i}_mask.png")


def pairs(**changes: Any) -> Any:
    source = {
        "path": "mine", "mask_suffix": "_mask", "labels": {255: "square", 128: "corner"},
        "fit": "stretch", "min_side": 32, "group_pattern": r"^(p\d)_",
    }  # fmt: skip
    few = {"n": 4, "min_per_class": 1}
    return config("pairs", image_size=32, source=source, calibration=few, **changes)


def test_pairs_of_ones_own_are_read_and_bad_ones_named(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    write_pairs(root)
    stage.run(pairs(), out=tmp_path / "out", data_root=tmp_path)
    data = open_prepared(tmp_path / "out")
    assert data.classes == ["corner", "square"]  # in the order of the values
    assert len(set(data.groups)) == 6
    assert data.card.strata is not None
    assert {c for s in data.card.strata.values() for c in s} == {"corner", "square"}
    image, mask = data.case(0)
    assert (mask == 1).mean() == pytest.approx(8 * 16 / (40 * 64), abs=0.01)
    assert (mask == 2).mean() == pytest.approx(16 * 20 / (40 * 64), abs=0.02)
    assert image[:, mask == 2].mean() > image[:, mask == 0].mean() + 80
    masks = root / "masks"
    Image.new("L", (64, 41)).save(masks / "p0_0_mask.png")
    Image.new("RGB", (64, 40)).save(masks / "p0_1_mask.png")
    Image.new("L", (64, 40), 7).save(masks / "p1_2_mask.png")
    whole = (masks / "p1_3_mask.png").read_bytes()
    (masks / "p1_3_mask.png").write_bytes(whole[: len(whole) // 2])
    text = refusal(pairs(), tmp_path)
    for words in (
        "p0_0: its mask is 64x41 and the image 64x40", "p0_1: its mask has pixel mode RGB",
        "p1_2: its mask holds 7; data.source.labels knows 0, 128, 255",
        "p1_3: its mask cannot be decoded",
    ):  # fmt: skip
        assert words in text
    (masks / "p2_4_mask.png").unlink()
    (root / "images" / "p2_5.png").rename(root / "images" / "q.png")
    text = refusal(pairs(), tmp_path)
    assert "p2_4: image without mask" in text
    assert "q: image without mask" in text
    assert "p2_5: mask without image" in text


def test_several_masks_of_an_image_are_united_also_beside_the_images(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    write_pairs(root)
    stage.run(pairs(), out=tmp_path / "apart", data_root=tmp_path)
    for path in (root / "masks").iterdir():
        whole = np.array(Image.open(path))
        for number, value in enumerate((128, 255)):
            one = np.where(whole == value, whole, 0).astype(np.uint8)
            name = path.name.replace("_mask", f"_mask_{number}" if number else "_mask")
            Image.fromarray(one).save(root / "images" / name)
    beside = pairs()
    source = beside.source.model_copy(update={"masks": "images"})
    beside = beside.model_copy(update={"source": source})
    stage.run(beside, out=tmp_path / "beside", data_root=tmp_path)
    apart, united = (open_prepared(tmp_path / name) for name in ("apart", "beside"))
    assert apart.masks is not None
    assert united.masks is not None
    np.testing.assert_array_equal(united.images, apart.images)
    np.testing.assert_array_equal(united.masks, apart.masks)

    Image.new("L", (64, 40), 128).save(root / "images" / "p0_0_mask_2.png")
    assert "p0_0: its masks contradict each other: p0_0_mask_2.png" in refusal(beside, tmp_path)


def refusal(cfg: Any, root: Path) -> str:
    with pytest.raises(UserError) as error:
        stage.run(cfg, out=root / "refused", data_root=root)
    return str(error.value)


def test_mask_values_survive_resampling() -> None:
    labels = np.kron(np.array([[0, 3], [7, 1]], np.uint8), np.ones((20, 20), np.uint8))
    palette = Image.fromarray(labels)
    palette = palette.convert("P")
    palette.putdata(labels.reshape(-1).tolist())
    for image in (Image.fromarray(labels), palette):
        content = io.BytesIO()
        image.save(content, "PNG")
        out = fit_labels(decode_labels(content.getvalue(), stored=Stored(40, 40)), 16, "stretch")
        np.testing.assert_array_equal(out, np.kron([[0, 3], [7, 1]], np.ones((8, 8))))


def test_an_outline_is_the_rim_of_a_label() -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[2:6, 2:6] = 1
    rim = outline(mask)
    assert (rim == 1).sum() == 12
    assert not rim[3:5, 3:5].any()
    mask[:] = 1
    assert not outline(mask).any()


def test_a_montage_shows_a_row_of_cases_per_split(tmp_path: Path) -> None:
    stage.run(small(), out=tmp_path, data_root=None)
    montage(open_prepared(tmp_path), tmp_path / "again.png")
    with Image.open(tmp_path / "montage.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (3 * 128 + 2 * 4, 8 * 128 + 7 * 4, 3)
    outlined = (pixels == [0, 158, 115]).all(-1)
    for row in range(3):
        for column in range(8):
            tile = outlined[row * 132 : row * 132 + 128, column * 132 : column * 132 + 128]
            assert tile.sum() > 20


DICOM = {  # what each file of the shared folder is to a reader of single images
    "CT_small": (128, 128), "MR_small": (64, 64), "MR_small_RLE": (64, 64), "693_UNCI": (512, 512),
    "MR2_J2KR": (1024, 1024), "JPEG2000": (1024, 256), "US1_UNCI": (480, 640),
    "examples_palette": (350, 800), "examples_rgb_color": (240, 320),
}  # fmt: skip
REFUSED = {
    "MR_truncated": "number of bytes of pixel data is less than expected",
    "rtplan": "RT Plan Storage, holds no pixel data",
    "waveform_ecg": "Waveform Storage, holds no pixel data",
    "emri_small": "of 10 frames", "examples_ybr_color": "of 30 frames",
}  # fmt: skip


def test_single_dicom_images_are_read_as_pictures(shared_data: Path) -> None:
    def read(name: str, channels: int = 1) -> tuple[np.ndarray, Stored]:
        content = (shared_data / "dicom" / f"{name}.dcm").read_bytes()
        return decode(content, size=64, channels=channels, fit="stretch", min_side=32)

    for name, (height, width) in DICOM.items():
        pixels, shape = read(name)
        assert shape == Stored(width, height)
        assert pixels.shape == (64, 64, 1)
        assert pixels.std() > 10
    np.testing.assert_array_equal(read("MR_small")[0], read("MR_small_RLE")[0])
    data = pydicom.dcmread(shared_data / "dicom" / "MR_small.dcm")
    low = float(data.WindowCenter) - 0.5 - (float(data.WindowWidth) - 1) / 2
    expected = np.clip((data.pixel_array - low) / (float(data.WindowWidth) - 1), 0, 1) * 255
    np.testing.assert_array_equal(read("MR_small")[0][..., 0], np.rint(expected))
    colours = read("examples_rgb_color", 3)[0]
    assert (colours.astype(int).max(-1) - colours.min(-1)).max() > 50
    for name, reason in REFUSED.items():
        with pytest.raises(BadImage, match=reason):
            read(name)


def test_a_folder_of_dicom_files_is_classified_like_any_other(
    tmp_path: Path, shared_data: Path
) -> None:
    root = tmp_path / "mine"
    for i in range(12):
        folder = root / ("ct" if i % 2 else "mr")
        folder.mkdir(parents=True, exist_ok=True)
        data = pydicom.dcmread(
            shared_data / "dicom" / ("CT_small.dcm" if i % 2 else "MR_small.dcm")
        )
        values = data.pixel_array.copy()
        values[:8, : 4 * (i + 1)] = values.max()
        data.PixelData = values.tobytes()
        data.save_as(folder / f"{i}.dcm")
    for name in ("MR_truncated", "rtplan", "waveform_ecg"):
        shutil.copy(shared_data / "dicom" / f"{name}.dcm", root / "ct")
    source = {"path": "mine", "channels": 1, "min_side": 32}
    audit = {"near_identical": "warn", "identical": "warn"}
    cfg = config(
        "folder",
        image_size=32,
        source=source,
        audit=audit,
        calibration={"n": 4, "min_per_class": 1},
    )
    text = refusal(cfg, tmp_path)
    for words in (
        "ct/MR_truncated.dcm: its pixels cannot be decoded",
        "ct/rtplan.dcm: RT Plan",
        "ct/waveform_ecg.dcm: 12-lead",
    ):
        assert words in text
    stage.run(cfg.model_copy(update={"invalid": "skip"}), out=tmp_path / "out", data_root=tmp_path)
    assert open_prepared(tmp_path / "out").card.invalid.n == 3
