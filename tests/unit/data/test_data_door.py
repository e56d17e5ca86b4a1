"""The door: what it lets in, and the reasons for what it does not."""

from __future__ import annotations

import csv
import gzip
import io
import os
import signal
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from refusals import naming
from shipped import shipped

from edgeward.core.errors import UserError
from edgeward.data import stage
from edgeward.data.config import Checks, DataConfig, Limits
from edgeward.data.door import BadImage, Door, shown, within
from edgeward.data.labels import label_indices
from edgeward.data.pixels import Store, Stored, decode, decode_labels, fit_labels
from edgeward.data.store import open_prepared


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a file, a pipe, and links; beside it a secret."""
    found = tmp_path / "root"
    (found / "a").mkdir(parents=True)
    (found / "a" / "x.png").write_bytes(b"here")
    (tmp_path / "secret.png").write_bytes(b"secret")
    os.mkfifo(found / "a" / "pipe.png")
    (found / "inner.png").symlink_to("a/x.png")
    (found / "a" / "loop.png").symlink_to("loop.png")
    return found


def test_only_regular_files_are_opened_and_the_rest_is_named(root: Path) -> None:
    (root / "a" / "link").symlink_to(".")
    names, lost = Door().files(root, {".png"})
    assert names == ["a/x.png", "inner.png"]
    assert [name for name, _ in lost] == ["a/link", "a/loop.png", "a/pipe.png"]
    assert "pipe" in dict(lost)["a/pipe.png"]
    assert Door().read(root / "inner.png") == b"here"
    with pytest.raises(BadImage, match="pipe"):
        Door().read(root / "a" / "pipe.png")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_out_is_refused_wherever_it_lies(root: Path, kind: str) -> None:
    (root / "a" / "out.png").symlink_to(root.parent / ("secret.png" if kind == "file" else ""))
    with pytest.raises(UserError, match=naming("'a/out.png'", "link", root)):
        Door().files(root, {".png"})


@given(st.text("ax./\0\\é", max_size=12) | st.text(max_size=30))
def test_no_path_leads_out(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "door"
    (folder / "a").mkdir(parents=True, exist_ok=True)
    (folder / "a" / "x").write_bytes(b"")
    try:
        found = Door().file(folder, name)
    except (BadImage, UserError):
        return
    assert found.resolve().is_relative_to(folder.resolve())
    assert found.is_file()


def test_limits_are_named(root: Path) -> None:
    with pytest.raises(UserError, match=naming("data.limits.cases", root)):
        Door(Limits(cases=1)).files(root)
    (root / "b.gz").write_bytes(gzip.compress(b"\0" * (3 << 20)))
    with (
        Door(Limits(decoded_mib=1)).unpacked(root / "b.gz") as stream,
        pytest.raises(BadImage, match=naming("data.limits.decoded_mib")),
    ):
        stream.read()
    with Door(Limits(decoded_mib=3)).unpacked(root / "b.gz") as stream:
        assert len(stream.read()) == 3 << 20


def test_a_reader_that_takes_too_long_is_stopped_and_an_outer_timer_goes_on() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    left = signal.setitimer(signal.ITIMER_REAL, 1000)
    try:
        with pytest.raises(BadImage, match=naming("data.limits.seconds")):
            Door(Limits(seconds=0.05)).admit(lambda: time.sleep(60))
        with within(5):
            pass
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
        signal.raise_signal(signal.SIGALRM)
        assert rung == [1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, *left)
        signal.signal(signal.SIGALRM, before)


def test_whatever_a_reader_raises_is_a_reason() -> None:
    for error in (KeyError("x"), RecursionError(), MemoryError(), ZeroDivisionError("by zero")):

        def read(error: Exception = error) -> None:
            raise error

        with pytest.raises(BadImage):
            Door().admit(read)


def test_names_can_be_written_anywhere() -> None:
    assert shown(os.fsdecode(b"x\xff.png")) == r"x\xff.png"
    assert shown("a\nb\0") == r"a\nb\x00"
    assert shown("日本 ü") == "日本 ü"


# --- pictures and masks --------------------------------------------------------------------


def encoded(array: np.ndarray, orientation: int) -> bytes:
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(array).save(out, "PNG", exif=exif)
    return out.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_lies_on_its_image_however_that_is_turned(orientation: int) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (20, 30), dtype=np.uint8)
    image = np.stack([labels * 80] * 3, -1)
    _, stored = decode(encoded(image, orientation), size=16, channels=3, fit="stretch", min_side=16)
    assert stored == Stored(30, 20, orientation)
    tagged = Image.open(io.BytesIO(encoded(labels, orientation)))
    upright = np.asarray(ImageOps.exif_transpose(tagged))
    found = decode_labels(encoded(labels, orientation), stored=stored)
    np.testing.assert_array_equal(found, upright)
    if orientation >= 5:  # the shape tells on which of the two it was drawn
        np.testing.assert_array_equal(decode_labels(encoded(upright, 1), stored=stored), upright)
        np.testing.assert_array_equal(decode_labels(encoded(labels, 1), stored=stored), upright)
    elif orientation > 1:
        with pytest.raises(BadImage, match=naming("EXIF", f"({orientation})")):
            decode_labels(encoded(labels, 1), stored=stored)


def test_what_a_crop_takes_is_counted_or_refused() -> None:
    labels = np.zeros((20, 60), np.uint8)
    labels[5:15, 35:45] = 1  # columns 20 to 39 stay: half of it
    with pytest.raises(BadImage, match=naming("50%", "data.checks.lost", "'crop'")):
        fit_labels(labels, 16, "crop")
    door = Door(checks=Checks(lost=0.5))
    assert fit_labels(labels, 20, "crop", door).sum() == 50
    assert door.noted["cropped_foreground"] == 1
    assert fit_labels(labels, 20, "pad", door).any()
    assert door.noted["cropped_foreground"] == 1


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_label_indices_of_bytes_are_those_of_any_numbers(values: list[int]) -> None:
    index = {1: 1, 2: 1, 3: 2, 4: 2, 5: 3}
    whole = np.array(values)
    np.testing.assert_array_equal(
        label_indices(whole.astype(np.uint8), index, "x"), label_indices(whole, index, "x")
    )


# --- what is told --------------------------------------------------------------------------


def folder_of_noise(root: Path) -> DataConfig:
    rng = np.random.default_rng(0)
    for label in ("ill", "well"):
        (root / "set" / label).mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "set" / label / f"{i}.png")
    values = shipped("data", "folder")
    values["source"] |= {"path": "set", "min_side": 16, "layout": "class_folders", "csv": None, "classes": None, "group_pattern": None}  # fmt: skip
    return DataConfig(**values | {"image_size": 16, "calibration": {"n": 4, "min_per_class": 1}})


def rows(out: Path) -> list[dict[str, str]]:
    with (out / stage.FINDINGS).open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_all_findings_are_written_also_when_refused(tmp_path: Path) -> None:
    cfg, out = folder_of_noise(tmp_path), tmp_path / "out"
    first = tmp_path / "set" / "ill" / "0.png"
    for i in range(4):
        (tmp_path / "set" / "well" / f"copy{i}.png").write_bytes(first.read_bytes())
    with pytest.raises(UserError, match=naming("contradictory: 1", out / "findings.csv")):
        stage.run(cfg, out=out, data_root=tmp_path)
    of_kind = [row for row in rows(out) if row["kind"] == "contradictory"]
    copies = [(f"well/copy{i}.png", "well") for i in range(4)]
    assert [(row["case"], row["label"]) for row in of_kind] == [("ill/0.png", "ill"), *copies]
    assert not (out / "card.json").exists()


def test_odd_cases_are_invalid_or_kept_and_counted(tmp_path: Path) -> None:
    cfg, out = folder_of_noise(tmp_path), tmp_path / "out"
    ill = tmp_path / "set" / "ill"
    Image.new("RGB", (20, 20), (9, 9, 9)).save(ill / "flat.png")
    rng = np.random.default_rng(1)
    pages = [Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)) for _ in range(2)]
    pages[0].save(ill / "pages.png", save_all=True, append_images=pages[1:])
    named = naming("ill/flat.png", "ill/pages.png", "data.checks.constant", "data.checks.frames")
    with pytest.raises(UserError, match=named):
        stage.run(cfg, out=out, data_root=tmp_path)
    assert sorted(row["case"] for row in rows(out)) == ["ill/flat.png", "ill/pages.png"]
    keep = cfg.model_copy(update={"checks": Checks(constant="keep", frames="first")})
    stage.run(keep, out=out, data_root=tmp_path)
    assert open_prepared(out).card.noted == {"constant": 1, "several_frames": 1}
    assert rows(out) == []


def test_an_archive_may_be_larger_than_a_file_and_its_members_may_not(tmp_path: Path) -> None:
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("a/large.png", bytes(2 << 20))
        packed.writestr("a/small.png", b"png")
    store = Store([archive], Door(Limits(file_mib=1, decoded_mib=1)))
    assert store.read("small") == b"png"
    with pytest.raises(BadImage, match=naming("data.limits.decoded_mib", 1)):
        store.read("large")
