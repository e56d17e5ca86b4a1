"""Real sources: what they accept, and what they refuse by name."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import runpy
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from refusals import naming
from shipped import shipped

from edgeward.core.errors import UserError
from edgeward.data import stage
from edgeward.data.config import DataConfig, Limits
from edgeward.data.door import Door
from edgeward.data.listing import BadImage, Listing
from edgeward.data.paths import inside
from edgeward.data.pixels import Store, Stored, decode, decode_mask
from edgeward.data.sources import medmnist
from edgeward.data.sources.folder import SIDES
from edgeward.data.split import stratified_group_split
from edgeward.data.store import SPLITS, open_prepared


def config(data_set: str, /, source: dict[str, Any] | None = None, **changes: Any) -> DataConfig:
    """The shipped config of a data set, with keys of the source and of the top replaced."""
    values = shipped("data", data_set)
    return DataConfig(**values | {"source": values["source"] | (source or {})} | changes)


def picture(seed: int, size: tuple[int, int] = (80, 64), kind: str = "JPEG") -> bytes:
    """An image file of noise; `size` is width and height."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def mask(size: tuple[int, int] = (80, 64)) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.eye(size[1], size[0], dtype=np.uint8) * 255).save(out, "PNG")
    return out.getvalue()


# --- decoding -------------------------------------------------------------------------------

FITS: dict[str, Any] = {"size": 32, "channels": 3, "fit": "crop", "min_side": 32}


def encoded(array: np.ndarray, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind)
    return out.getvalue()


def test_a_size_that_fits_is_kept_to_the_bit() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    found, shape = decode(encoded(pixels), **FITS)
    np.testing.assert_array_equal(found, pixels)
    assert shape == Stored(32, 32)


def test_crop_stretch_and_pad() -> None:
    pixels = np.zeros((40, 120, 3), np.uint8)
    pixels[:, 40:80] = 200  # the middle third
    content = encoded(pixels)
    of = {
        fit: decode(content, **FITS | {"fit": fit})[0].mean() / 200
        for fit in ("crop", "stretch", "pad")
    }
    assert of["crop"] == pytest.approx(1, abs=0.01)
    assert of["stretch"] == pytest.approx(1 / 3, abs=0.03)
    assert of["pad"] == pytest.approx(1 / 9, abs=0.03)


def test_grey_and_colour() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    np.testing.assert_array_equal(decode(encoded(grey), **FITS)[0], np.stack([grey] * 3, -1))
    found, _ = decode(encoded(grey), **FITS | {"channels": 1})
    np.testing.assert_array_equal(found[..., 0], grey)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"no image at all", "cannot be decoded"),
        (picture(0)[:1500], "cannot be decoded"),
        (picture(0, kind="PNG")[:-400], "cannot be decoded"),
        (picture(0, (31, 200)), "31x200.* 32 .*min_side"),
        (encoded(np.zeros((40, 40), np.uint16)), "I;16.*8-bit"),
    ],
    ids=["empty", "text", "truncated jpeg", "truncated png", "small", "16 bit"],
)
def test_unusable_files_have_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        decode(content, **FITS)


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    small = Door(Limits(pixels=80 * 64 - 1))
    with pytest.raises(BadImage, match=naming("80x64", "data.limits.pixels", "5119")):
        decode(picture(0)[:800], **FITS, door=small)
    decode(picture(0), **FITS, door=Door(Limits(pixels=80 * 64)))


def test_masks_are_binary_and_fit_their_image() -> None:
    found = decode_mask(mask(), size=32, fit="stretch", stored=Stored(80, 64))
    assert found.shape == (32, 32)
    assert set(np.unique(found)) == {0, 1}
    with pytest.raises(BadImage, match=naming("80x64", "64x80")):
        decode_mask(mask(), size=32, fit="crop", stored=Stored(64, 80))


def test_paths_and_links_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "secret")
    assert inside(tmp_path / "root", "a/b.png") == tmp_path / "root/a/b.png"
    for path in ("../secret/x", "/etc/passwd", "a/../../secret", "link/x"):
        with pytest.raises(UserError, match=naming(f"'{path}'", tmp_path / "root")):
            inside(tmp_path / "root", path)


@pytest.mark.parametrize("member", ["../x.jpg", "/x.jpg", "a/../../x.jpg", "..\\x.jpg"])
def test_archive_members_stay_inside(tmp_path: Path, member: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(member, picture(0))
    with pytest.raises(UserError, match=naming("a.zip", f"'{member}'")):
        Store([tmp_path / "a.zip"])


def test_a_broken_archive_and_double_names(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK not really")
    with pytest.raises(UserError, match=naming("a.zip", "zip")):
        Store([tmp_path / "a.zip"])
    for folder in "bc":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "one.jpg").write_bytes(picture(0))
    with pytest.raises(UserError, match=naming(tmp_path / "c", "'one'")):
        Store([tmp_path / "b", tmp_path / "c"])


# --- HAM10000 -------------------------------------------------------------------------------


def ham(root: Path, *, zipped: bool = True, n: int = 63) -> Path:
    """A small HAM10000 in the publisher's layout: 3 images for each of 21 lesions."""
    folder = root / "ham10000"
    folder.mkdir(parents=True)
    rows = [
        (
            f"HAM_{i // 3}",
            f"ISIC_{i}",
            ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"][i // 3 % 7],
        )
        for i in range(n)
    ]
    files: dict[str, dict[str, bytes]] = {
        "HAM10000_images_part_1": {f"ISIC_{i}.jpg": picture(i) for i in range(n // 2)},
        "HAM10000_images_part_2": {f"ISIC_{i}.jpg": picture(i) for i in range(n // 2, n)},
        "HAM10000_segmentations_lesion_tschandl": {
            f"ISIC_{i}_segmentation.png": mask() for i in range(n)
        },
    }
    for name, content in files.items():
        if zipped:
            with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
                for file, data in content.items():
                    archive.writestr(file, data)
        else:
            (folder / name).mkdir()
            for file, data in content.items():
                (folder / name / file).write_bytes(data)
    with (folder / "HAM10000_metadata.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"])
        writer.writerows([*row, "histo", "", "male", "back"] for row in rows)
    return folder


SMALL = {"calibration": {"n": 14, "min_per_class": 1}}


def test_ham10000_from_zips_and_from_folders_is_the_same(tmp_path: Path) -> None:
    cards = []
    for kind in ("zips", "folders"):
        ham(tmp_path / kind, zipped=kind == "zips")
        stage.run(
            config("ham10000", **SMALL), out=tmp_path / kind / "out", data_root=tmp_path / kind
        )
        cards.append(open_prepared(tmp_path / kind / "out").card)
    assert cards[0] == cards[1]
    assert cards[0].n_images == 63
    assert sum(cards[0].groups.values()) == 21
    assert "masks.npy" in cards[0].hashes


def test_missing_ham10000_says_what_from_where_and_where_to(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=naming("ham10000", "doi.org/10.7910/DVN/DBW86T", "EDGEWARD_DATA_ROOT")
    ):
        stage.open_listing(config("ham10000"), None)
    folder = ham(tmp_path)
    (folder / "HAM10000_images_part_2.zip").unlink()
    (folder / "HAM10000_metadata.csv").unlink()
    with pytest.raises(UserError) as caught:
        stage.open_listing(config("ham10000"), tmp_path)
    message = str(caught.value)
    for word in ("HAM10000_images_part_2.zip", "HAM10000_metadata.csv", "DVN/DBW86T", str(folder)):
        assert word in message
    assert "part_1" not in message


def test_what_ham10000_says_of_patients_goes_with_the_images(tmp_path: Path) -> None:
    folder = ham(tmp_path)
    table = folder / "HAM10000_metadata.csv"
    text = table.read_text().replace(
        "ISIC_5,bcc,histo,,male,back", "ISIC_5,bcc,histo,40.0,unknown,face"
    )
    table.write_text(text)
    stage.run(config("ham10000", **SMALL), out=tmp_path / "out", data_root=tmp_path)
    prepared = open_prepared(tmp_path / "out")
    assert set(prepared.columns) == {"age", "sex", "localization", "dx_type"}
    found = {
        name: dict(zip(*np.unique(v, return_counts=True), strict=True))
        for name, v in prepared.columns.items()
    }
    assert found["age"] == {"": 62, "40.0": 1}
    assert found["sex"] == {"": 1, "male": 62}
    assert found["localization"] == {"back": 62, "face": 1}


def test_missing_masks_can_be_done_without(tmp_path: Path) -> None:
    folder = ham(tmp_path)
    (folder / "HAM10000_segmentations_lesion_tschandl.zip").unlink()
    with pytest.raises(
        UserError,
        match=naming("HAM10000_segmentations_lesion_tschandl.zip", "data.source.masks: ignore"),
    ):
        stage.open_listing(config("ham10000"), tmp_path)
    listing = stage.open_listing(config("ham10000", {"masks": "ignore"}), tmp_path)
    assert listing.batches is not None
    assert all(batch.masks is None for batch in listing.batches())


def test_faults_of_ham10000_are_named(tmp_path: Path) -> None:
    folder = ham(tmp_path, zipped=False, n=84)
    part = folder / "HAM10000_images_part_1"
    (part / "ISIC_0.jpg").write_bytes(picture(0)[:900])
    (part / "ISIC_1.jpg").write_bytes(picture(0, (20, 20)))
    (part / "ISIC_2.jpg").unlink()
    (part / "ISIC_stray.jpg").write_bytes(picture(7))
    masks = folder / "HAM10000_segmentations_lesion_tschandl"
    (masks / "ISIC_3_segmentation.png").unlink()
    (masks / "ISIC_4_segmentation.png").write_bytes(mask((64, 80)))
    metadata = folder / "HAM10000_metadata.csv"
    text = metadata.read_text().replace("ISIC_5,bcc", "ISIC_5,")
    metadata.write_text(text.replace("ISIC_6,bkl", "ISIC_6,xx"))
    with pytest.raises(UserError, match=naming("ISIC_stray")):
        stage.run(config("ham10000", **SMALL), out=tmp_path / "out", data_root=tmp_path)
    metrics = stage.run(
        config("ham10000", invalid="skip", **SMALL), out=tmp_path / "out", data_root=tmp_path
    )
    invalid = open_prepared(tmp_path / "out").card.invalid
    assert invalid is not None
    named = {row[0]: row[1] for row in invalid.first}
    assert "cannot be decoded" in named["ISIC_0"]
    assert "shorter side" in named["ISIC_1"]
    assert named["ISIC_2"] == "in the metadata, but no such image file"
    assert named["ISIC_3"] == "no mask file"
    assert "its mask is 64x80" in named["ISIC_4"]
    assert "diagnosis '' is none of" in named["ISIC_5"]
    assert "diagnosis 'xx' is none of" in named["ISIC_6"]
    assert metrics["n_invalid"] == 8


def test_published_ham10000_is_listed_whole_and_split_by_lesion(shared_data: Path) -> None:
    cfg = config("ham10000")
    listing = stage.open_listing(cfg, shared_data)
    assert not listing.invalid
    assert listing.labels is not None
    counts = Counter(listing.classes[k] for k in listing.labels)
    assert counts == {
        "nv": 6705, "mel": 1113, "bkl": 1099, "bcc": 514, "akiec": 327, "vasc": 142, "df": 115
    }  # fmt: skip
    assert len(set(listing.groups)) == 7470
    numbers = np.unique(listing.groups, return_inverse=True)[1]
    shares = (0.65, 0.1, 0.25)
    splits = stratified_group_split(listing.labels, numbers, shares, cfg.seed, listing.classes)
    for split, share in zip(SPLITS, shares, strict=True):
        own = np.bincount(listing.labels[splits == split], minlength=7)
        np.testing.assert_allclose(own, share * np.bincount(listing.labels), atol=2)
        per_lesion = (splits == split).sum() / len(set(numbers[splits == split]))
        assert per_lesion == pytest.approx(10015 / 7470, rel=0.05)
    for side in ("train", "val"):
        assert not set(numbers[splits == side]) & set(numbers[splits == "test"])


def test_a_part_of_published_ham10000_is_prepared(shared_data: Path, tmp_path: Path) -> None:
    """Some lesions of each class, pixels and masks; the rest is unlabelled on purpose."""
    root = tmp_path / "ham10000"
    root.mkdir()
    for file in (shared_data / "ham10000").glob("*.zip"):
        (root / file.name).symlink_to(file)
    with (shared_data / "ham10000" / "HAM10000_metadata.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    lesions: dict[str, set[str]] = {}
    for row in rows:
        own = lesions.setdefault(row["dx"], set())
        if len(own) < 20:
            own.add(row["lesion_id"])
    rows = [row for row in rows if row["lesion_id"] in lesions[row["dx"]]]
    with (root / "HAM10000_metadata.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    stage.run(config("ham10000", invalid="skip"), out=tmp_path / "out", data_root=tmp_path)
    data = open_prepared(tmp_path / "out")
    assert data.card.invalid is not None
    assert data.card.invalid.n == 10015 - len(rows)
    assert len(data.images) == len(rows)
    masks = np.load(tmp_path / "out" / "masks.npy")
    pixels = data.images.astype(float).mean(-1)
    inside_, outside = pixels[masks == 1].mean(), pixels[masks == 0].mean()
    assert inside_ < outside - 15  # lesions are darker than skin: the masks lie where they should


# --- MedMNIST -------------------------------------------------------------------------------


def npz(
    path: Path, n: tuple[int, int, int] = (60, 20, 30), changes: dict[str, np.ndarray] | None = None
) -> str:
    """A MedMNIST-like file; returns its MD5."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split, k in zip(SPLITS, n, strict=True):
        arrays[f"{split}_images"] = rng.integers(0, 256, (k, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(k) % 2).astype(np.uint8)[:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, allow_pickle=True, **arrays | (changes or {}))
    return hashlib.md5(path.read_bytes()).hexdigest()


Published = Callable[..., None]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Published:
    """Change what the catalogue says of pneumoniamnist."""

    def publish(**changes: str) -> None:
        info = medmnist.catalogue()
        info["pneumoniamnist"] |= changes
        monkeypatch.setattr(medmnist, "catalogue", lambda: info)

    return publish


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve a folder on this machine."""
    (tmp_path / "web").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    with HTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_catalogue_is_medmnists_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # info.py makes a folder in the home
    spec = importlib.util.find_spec("medmnist")
    assert spec is not None
    assert spec.origin is not None
    own = runpy.run_path(str(Path(spec.origin).with_name("info.py")))["INFO"]
    assert medmnist.catalogue() == own


def test_a_download_is_used_only_with_the_right_md5(
    tmp_path: Path, server: str, published: Published
) -> None:
    md5 = npz(tmp_path / "web" / "p.npz")
    cfg, root = config("pneumoniamnist"), tmp_path / "data"
    published(url=f"{server}/p.npz", MD5="0" * 32)
    with pytest.raises(UserError, match=naming(md5, "0" * 32)):
        stage.open_listing(cfg, root)
    assert not [p for p in root.rglob("*") if p.is_file()]
    published(url=f"{server}/p.npz", MD5=md5)
    listing = stage.open_listing(cfg, root)
    assert (root / "medmnist" / "pneumoniamnist.npz").is_file()
    assert len(listing.ids) == 110
    (tmp_path / "web" / "p.npz").unlink()
    assert len(stage.open_listing(cfg, root).ids) == 110  # from the local file


def test_a_download_that_fails_says_what_to_do(
    tmp_path: Path, server: str, published: Published
) -> None:
    published(url=f"{server}/gone.npz")
    with pytest.raises(UserError, match=naming("gone.npz", "medmnist/pneumoniamnist.npz", 404)):
        stage.open_listing(config("pneumoniamnist"), tmp_path)
    with pytest.raises(
        UserError, match=naming("medmnist/pneumoniamnist.npz", "data.source.download")
    ):
        stage.open_listing(config("pneumoniamnist", {"download": False}), tmp_path)
    with pytest.raises(
        UserError, match=naming("medmnist/pneumoniamnist.npz", "EDGEWARD_DATA_ROOT")
    ):
        stage.open_listing(config("pneumoniamnist"), None)


def test_a_damaged_local_file_is_refused(tmp_path: Path) -> None:
    npz(tmp_path / "medmnist" / "pneumoniamnist.npz")
    with pytest.raises(UserError, match=naming("medmnist/pneumoniamnist.npz", "MD5")):
        stage.open_listing(config("pneumoniamnist"), tmp_path)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"val_images": np.zeros((20, 32, 32), np.uint8)}, ["val_images", "(32, 32)", "(28, 28)"]),
        ({"val_images": np.zeros((19, 28, 28), np.uint8)}, ["19 val images", "(20, 1)"]),
        ({"val_labels": np.full((20, 1), 2, np.uint8)}, [20, "2 classes", "val_000000"]),
        ({"val_labels": np.array([object()] * 20)}, ["'val_labels'", "object"]),
    ],
)
def test_odd_arrays_are_refused(
    tmp_path: Path, published: Published, changes: dict[str, np.ndarray], parts: list[object]
) -> None:
    published(MD5=npz(tmp_path / "medmnist" / "pneumoniamnist.npz", changes=changes))
    with pytest.raises(UserError, match=naming("pneumoniamnist.npz", *parts)):
        stage.open_listing(config("pneumoniamnist"), tmp_path)


def test_sets_that_there_are_not(tmp_path: Path) -> None:
    words = naming("'dermamnst'", "'dermamnist'", "data.source.dataset")
    with pytest.raises(UserError, match=words):
        stage.open_listing(config("pneumoniamnist", {"dataset": "dermamnst"}), tmp_path)


def test_published_pneumoniamnist(shared_data: Path, tmp_path: Path) -> None:
    metrics = stage.run(config("pneumoniamnist"), out=tmp_path, data_root=shared_data)
    data = open_prepared(tmp_path)
    assert data.images.shape == (5856, 28, 28, 1)
    with np.load(shared_data / "medmnist" / "pneumoniamnist.npz") as archive:
        for split in SPLITS:
            own = data.indices(split)
            np.testing.assert_array_equal(data.images[own][..., 0], archive[f"{split}_images"])
            np.testing.assert_array_equal(data.labels[own], archive[f"{split}_labels"][:, 0])
        digests = {s: {i.tobytes() for i in archive[f"{s}_images"]} for s in SPLITS}
    shared = set.union(*(digests[a] & digests[b] for a, b in combinations(SPLITS, 2)))
    assert metrics["leak_identical"] == len(shared) > 0
    assert data.card.licence == "CC BY 4.0"


def test_medmnist_can_be_resampled_and_dealt_anew(shared_data: Path, tmp_path: Path) -> None:
    split = {"kind": "stratified", "train": 0.6, "val": 0.2, "test": 0.2}
    cfg = config("pneumoniamnist", split=split, image_size=20)
    stage.run(cfg, out=tmp_path, data_root=shared_data)
    data = open_prepared(tmp_path)
    assert data.images.shape == (5856, 20, 20, 1)
    assert len(data.indices("test")) == pytest.approx(0.2 * 5856, abs=2)


# --- Folders and tables ---------------------------------------------------------------------


def folder_config(**source: Any) -> DataConfig:
    values = {"min_side": 32, "path": "mine"} | source
    split = {"kind": "stratified", "train": 0.5, "val": 0.25, "test": 0.25}
    return config("folder", values, image_size=32, split=split, calibration=SMALL["calibration"])


def classes_on_disk(root: Path, n: int = 24) -> None:
    for i in range(n):
        path = root / "mine" / ("ill" if i % 3 else "well") / f"p{i // 6}{'abcdef'[i % 6]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(i, (40, 36), "PNG"))


def listing_of(cfg: DataConfig, root: Path) -> Listing:
    return stage.open_listing(cfg, root)


def test_class_folders(tmp_path: Path) -> None:
    classes_on_disk(tmp_path)
    stage.run(folder_config(), out=tmp_path / "out", data_root=tmp_path)
    data = open_prepared(tmp_path / "out")
    assert data.classes == ["ill", "well"]
    assert len(data.images) == 24
    listing = listing_of(folder_config(group_pattern=r"^(p\d+)", classes=["well", "ill"]), tmp_path)
    assert listing.classes == ["well", "ill"]
    assert set(listing.groups) == {"p0", "p1", "p2", "p3"}
    assert listing.labels is not None
    assert [listing.classes[k] for k in listing.labels] == [i.split("/")[0] for i in listing.ids]


def test_split_folders(tmp_path: Path) -> None:
    for i in range(30):
        side, label = SPLITS[i % 3], "ab"[i // 3 % 2]
        path = tmp_path / "mine" / side / label / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(i, (40, 36), "PNG"))
    cfg = folder_config(layout="split_folders").model_copy(
        update={"split": config("phantom").split}
    )
    stage.run(cfg, out=tmp_path / "out", data_root=tmp_path)
    data = open_prepared(tmp_path / "out")
    assert [len(data.indices(s)) for s in SPLITS] == [10, 10, 10]


def test_split_folders_as_others_name_them(tmp_path: Path) -> None:
    for i in range(40):
        side, label = ("Training", "Testing")[i % 4 == 0], "ab"[i % 2 if i % 4 else i // 4 % 2]
        path = tmp_path / "mine" / side / label / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(i, (40, 36), "PNG"))
    cfg = config(
        "folder", {"min_side": 32, "path": "mine", "layout": "split_folders"},
        image_size=32, split={"kind": "given", "val": 0.2}, calibration=SMALL["calibration"],
    )  # fmt: skip
    stage.run(cfg, out=tmp_path / "out", data_root=tmp_path)
    data = open_prepared(tmp_path / "out")
    assert [len(data.indices(s)) for s in SPLITS] == [24, 6, 10]


def test_where_no_class_is_found_the_reasons_are_named(tmp_path: Path) -> None:
    classes_on_disk(tmp_path)
    (tmp_path / "mine").rename(tmp_path / "real")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "ill").symlink_to(tmp_path / "real" / "ill")
    with pytest.raises(UserError, match=naming("'ill'", "link", tmp_path / "mine")):
        listing_of(folder_config(), tmp_path)
    with pytest.raises(UserError, match=naming("ill", "well", "training")):
        listing_of(folder_config(layout="split_folders", path="real"), tmp_path)


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ({"group_pattern": "(p"}, ["data.source.group_pattern", "'(p'", "missing )"]),
        ({"group_pattern": r"p\d"}, ["data.source.group_pattern", r"'p\d'"]),
        ({"path": "elsewhere"}, ["elsewhere", "data.source.path"]),
        ({"layout": "csv", "csv": "none.csv"}, ["mine/none.csv", "data.source.csv"]),
    ],
)
def test_folder_settings_that_cannot_work(
    tmp_path: Path, source: dict[str, Any], parts: list[str]
) -> None:
    classes_on_disk(tmp_path)
    with pytest.raises(UserError, match=naming(*parts)):
        listing_of(folder_config(**source), tmp_path)


def table(root: Path, text: str) -> DataConfig:
    classes_on_disk(root)
    (root / "mine" / "all.csv").write_text(text)
    return folder_config(layout="csv", csv="all.csv")


def test_csv_with_groups_and_sides(tmp_path: Path) -> None:
    rows = "".join(
        f"{'ill' if i % 3 else 'well'}/p{i // 6}{'abcdef'[i % 6]}.png,{'xy'[i % 2]},g{i // 2},"
        f"{SPLITS[i // 2 % 3]}\n"
        for i in range(24)
    )
    listing = listing_of(table(tmp_path, "path,label,group,split\n" + rows), tmp_path)
    assert listing.classes == ["x", "y"]
    assert len(set(listing.groups)) == 12
    assert listing.splits is not None
    assert Counter(listing.splits.tolist()) == dict.fromkeys(SPLITS, 8)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_as_spreadsheets_write_them(tmp_path: Path, separator: str) -> None:
    rows = [["path", "label", "group"]]
    rows += [
        [
            f"{'ill' if i % 3 else 'well'}/p{i // 6}{'abcdef'[i % 6]}.png",
            "a, b"[:: 1 + i % 2 * 3],
            f"g{i}",
        ]
        for i in range(24)
    ]
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows(rows)
    listing = listing_of(table(tmp_path, text.getvalue()), tmp_path)
    assert listing.classes == ["a", "a, b"]
    assert listing.groups == [f"g{i}" for i in range(24)]


def test_further_columns_of_a_csv_go_with_the_images(tmp_path: Path) -> None:
    text = "path,label,age,sex\n" + "".join(
        f"{'ill' if i % 3 else 'well'}/p{i // 6}{'abcdef'[i % 6]}.png,{'xy'[i % 2]},{30 + i},\n"
        for i in range(24)
    )
    with pytest.raises(UserError, match=naming("all.csv", "'age'", "data.source.columns")):
        listing_of(table(tmp_path, text), tmp_path)
    asked = folder_config(layout="csv", csv="all.csv", columns=["age", "sex"])
    listing = listing_of(asked, tmp_path)
    assert listing.columns["age"] == [str(30 + i) for i in range(24)]
    assert set(listing.columns["sex"]) == {""}
    lacking = folder_config(layout="csv", csv="all.csv", columns=["age", "sex", "site"])
    with pytest.raises(UserError, match=naming("all.csv", "site", "data.source.columns")):
        listing_of(lacking, tmp_path)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("path,label,gruop\nill/p0b.png,x,1\n", ["all.csv", "'gruop'", "group"]),
        ("path\nill/p0b.png\n", ["all.csv", "label", "['path']"]),
        ("path,label\n../../secret.png,x\n", ["'../../secret.png'"]),
        ("path,label\n/etc/hosts,x\n", ["'/etc/hosts'"]),
        ("path,label\nill/p0b.png,x\nill/p0b.png,y\n", ["all.csv", "line 3", "'ill/p0b.png'"]),
        ("path,label\n,x\n", ["all.csv", "line 2", "path"]),
        ("path,label\nill/p0b.png,x,y\n", ["all.csv", "row 2"]),
        ('path,label\n"ill/p0b.png,x\n', ["all.csv", "UTF-8"]),
        ("path,label\nill/p0b.png,x\n", ["['x']", "data.source.classes"]),
    ],
)
def test_tables_that_cannot_work(tmp_path: Path, text: str, parts: list[str]) -> None:
    cfg = table(tmp_path, text)
    with pytest.raises(UserError, match=naming(*parts)):
        listing_of(cfg, tmp_path)


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    cfg = table(tmp_path, "")
    (tmp_path / "mine" / "all.csv").write_bytes("path,label\nä.png,x\n".encode("latin-1"))
    with pytest.raises(UserError, match=naming("all.csv", "UTF-8", "0xe4")):
        listing_of(cfg, tmp_path)


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    classes_on_disk(tmp_path / "disk")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "mine").symlink_to(tmp_path / "disk" / "mine")
    assert len(listing_of(folder_config(), tmp_path / "root").ids) == 24


def test_rows_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    text = (
        "path,label,group,split\n"
        "ill/p0b.png,x,1,train\nill/p0c.png,y,1,train\n"
        "ill/p0e.png,,1,train\nill/none.png,x,1,train\nwell/p0a.png,x,,train\nill/p0f.png,x,2,dev\n"
    )
    listing = listing_of(table(tmp_path, text), tmp_path)
    assert dict(listing.invalid) == {
        "ill/p0e.png": "unlabelled",
        "ill/none.png": "no such file",
        "well/p0a.png": "no group, while the CSV has the column",
        "ill/p0f.png": f"split 'dev' is none of {', '.join(SIDES)}",
    }


def test_files_without_a_class_or_group_are_named(tmp_path: Path) -> None:
    classes_on_disk(tmp_path)
    (tmp_path / "mine" / "stray.png").write_bytes(picture(0, (40, 36)))
    (tmp_path / "mine" / "ill" / "odd.png").write_bytes(picture(0, (40, 36)))
    cfg = folder_config(group_pattern=r"^(p\d+)", classes=["ill", "dead"])
    invalid = dict(listing_of(cfg, tmp_path).invalid)
    assert invalid["stray.png"] == "unlabelled: in no class folder"
    assert "group_pattern" in invalid["ill/odd.png"]
    assert invalid["well/p0a.png"] == "label 'well' is not in data.source.classes"
    assert len(invalid) == 2 + 8
