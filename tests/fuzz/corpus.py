"""Broken inputs of every source and config: those that once came through, and seeded mutants of healthy ones."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import socket
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataelem import DataElement
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

sys.path.insert(0, str(Path(__file__).resolve().parent))

from configs import config_cases
from worlds import WORLDS, Config, mask, picture

Rng = np.random.Generator
Expect = Literal["refuse", "accept", "any"]


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes
    ----------
    build : writes it below a folder, and returns the config of the data set.
    expect : what must come of it; any: whatever, as long as it is said.
    words : what a refusal must name.
    check : what is run in place of `prepare`.
    """

    name: str
    source: str
    build: Callable[[Path, Rng], Config]
    expect: Expect = "any"
    words: tuple[str, ...] = ()
    check: Callable[[Path], None] | None = None

    @property
    def heavy(self) -> bool:
        """Whether it takes seconds to build or to read."""
        return any(word in self.name for word in ("bomb", "million", "gigabytes"))


Break = Callable[[Path, Rng, Config], Any]
KNOWN: list[Case] = []


def broken(world: str, how: Break, root: Path, rng: Rng) -> Config:
    """Make a healthy world and break it; a config that is returned takes the place of the world's."""
    values = WORLDS[world](root, rng)
    return how(root / "set", rng, values) or values


def known(world: str, expect: Expect, *words: str, name: str = "") -> Callable[[Break], Break]:
    """Add a case to the known ones."""

    def add(how: Break) -> Break:
        KNOWN.append(Case(name or how.__name__, world, partial(broken, world, how), expect, words))
        return how

    return add


for _world in WORLDS:
    KNOWN.append(Case("healthy", _world, partial(broken, _world, lambda *_: None), "accept"))


# --- names and kinds of files --------------------------------------------------------------


def _special(kind: str, at: Path) -> None:
    if kind == "fifo":
        os.mkfifo(at)
    elif kind == "socket":
        here = Path.cwd()
        os.chdir(at.parent)  # names of sockets are short
        socket.socket(socket.AF_UNIX).bind(at.name)
        os.chdir(here)
    elif kind == "device":
        at.symlink_to("/dev/zero")
    elif kind == "loop":
        at.symlink_to(at.name)
    elif kind == "dangling":
        at.symlink_to("nowhere")
    elif kind == "folder":
        at.mkdir()
    elif kind == "outside":
        at.symlink_to("/etc/hostname")


_SPECIAL = ("fifo", "socket", "device", "loop", "dangling", "folder", "outside")
_PLACES = {"folder": "ill/x.png", "csv": "ill/000.png", "pairs": "images/000.png", "ham10000": "HAM10000_metadata.csv",
           "nifti": "images/c0.nii.gz", "decathlon": "imagesTr/c0.nii.gz", "dicom": "images/c0/IM000"}  # fmt: skip


def _specially(kind: str, place: str, root: Path, rng: Rng, values: Config) -> None:
    at = root / place
    at.unlink(missing_ok=True)
    _special(kind, at)


for _world, _place in _PLACES.items():
    for _kind in _SPECIAL:
        KNOWN.append(Case(f"a {_kind} for {_place}", _world, partial(broken, _world, partial(_specially, _kind, _place)), "any" if _kind == "folder" else "refuse", () if _kind == "folder" else (Path(_place).name.split(".")[0],)))  # fmt: skip
for _kind in _SPECIAL[:-1]:
    KNOWN.append(Case(f"a {_kind} for dataset.json", "decathlon", partial(broken, "decathlon", partial(_specially, _kind, "dataset.json")), "refuse", ("dataset.json",)))  # fmt: skip
    KNOWN.append(Case(f"a {_kind} for a table", "csv", partial(broken, "csv", partial(_specially, _kind, "table.csv")), "refuse", ("table.csv",)))  # fmt: skip
    KNOWN.append(Case(f"a {_kind} for a mask", "pairs", partial(broken, "pairs", partial(_specially, _kind, "masks/003.png")), "refuse", ("003",)))  # fmt: skip


@known("folder", "refuse", "ill")
def a_class_that_is_a_link_out(root: Path, rng: Rng, values: Config) -> None:
    (root / "ill").rename(root.parent / "elsewhere")
    (root / "ill").symlink_to(root.parent / "elsewhere")


@known("folder", "refuse", "sick")
def a_third_class_that_is_a_link_out(root: Path, rng: Rng, values: Config) -> None:
    other = root.parent / "elsewhere"
    other.mkdir()
    for i in range(9):
        (other / f"{i}.png").write_bytes(picture(rng))
    (root / "sick").symlink_to(other)


@known("folder", "refuse", "sick")
def a_class_that_is_a_link_inside(root: Path, rng: Rng, values: Config) -> None:
    (root / "sick").symlink_to("ill")


@known("folder", "refuse", "round")
def a_folder_that_holds_itself(root: Path, rng: Rng, values: Config) -> None:
    (root / "ill" / "round").symlink_to("..")


@known("folder", "refuse", "x")
def a_name_that_is_no_utf8(root: Path, rng: Rng, values: Config) -> None:
    Path(os.fsdecode(os.fsencode(root / "ill") + b"/x\xff.png")).write_bytes(picture(rng))


@known("folder", "refuse", "il")
def a_class_that_is_no_utf8(root: Path, rng: Rng, values: Config) -> None:
    (root / "ill").rename(Path(os.fsdecode(os.fsencode(root) + b"/il\xff")))


@known("pairs", "refuse", "x")
def a_pair_that_is_no_utf8(root: Path, rng: Rng, values: Config) -> None:
    for part, data in (("images", picture(rng)), ("masks", mask(rng))):
        Path(os.fsdecode(os.fsencode(root / part) + b"/x\xff.png")).write_bytes(data)


@known("nifti", "refuse", "c0")
def a_volume_that_is_no_utf8(root: Path, rng: Rng, values: Config) -> None:
    for part in ("images", "masks"):
        (root / part / "c0.nii.gz").rename(
            Path(os.fsdecode(os.fsencode(root / part) + b"/c0\xff.nii.gz"))
        )


@known("dicom", "refuse", "c0")
def a_case_that_is_no_utf8(root: Path, rng: Rng, values: Config) -> None:
    (root / "images" / "c0").rename(Path(os.fsdecode(os.fsencode(root / "images") + b"/c0\xff")))


@known("folder", "accept")
def names_of_all_kinds(root: Path, rng: Rng, values: Config) -> None:
    for name in ("a b", "ü", "日本", "<b>", "a,b", 'q"', "$(id)", "line\nend", "-x", "&amp;"):
        (root / "ill" / f"{name}.png").write_bytes(picture(rng))


@known("folder", "accept")
def a_link_to_a_file_inside(root: Path, rng: Rng, values: Config) -> None:
    (root / "store").mkdir()
    (root / "store" / "one.bin").write_bytes(picture(rng))
    (root / "ill" / "link.png").symlink_to("../store/one.bin")


@known("folder", "any")
def the_set_is_a_link(root: Path, rng: Rng, values: Config) -> None:
    root.rename(root.parent / "real")
    root.symlink_to("real")


for _name, _pattern in {"a+": r"(a+)+$", "or": r"^(a|aa)+$", "any": r"((.*)*)*x$", "many": "(.*)" * 9 + "!$", "huge": "(a{1,1000}){1,1000}"}.items():  # fmt: skip
    for _world in ("folder", "nifti", "pairs"):

        def _catastrophe(pattern: str, world: str, root: Path, rng: Rng, values: Config) -> None:
            values["source"]["group_pattern"] = pattern
            for part in ("images", "masks") if world != "folder" else ("ill",):
                at = sorted((root / part).iterdir())[0]
                at.rename(at.with_name("a" * 60 + "b" + "".join(at.suffixes)))

        KNOWN.append(Case(f"the pattern {_name}", _world, partial(broken, _world, partial(_catastrophe, _pattern, _world)), "any"))  # fmt: skip
for _pattern in ("(", "[", "(?P<x", "x", "", "(?<=a)b(c)", r"(.)\1", "(?i)(A)", "*"):
    for _world in ("folder", "pairs", "nifti"):

        def _odd(pattern: str, root: Path, rng: Rng, values: Config) -> None:
            values["source"]["group_pattern"] = pattern

        KNOWN.append(Case(f"the pattern {_pattern!r}", _world, partial(broken, _world, partial(_odd, _pattern)), "refuse", ("group_pattern",)))  # fmt: skip


# --- pictures ------------------------------------------------------------------------------


def _images(n: int, rng: Rng, side: int = 24) -> list[Image.Image]:
    return [
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for _ in range(n)
    ]


def _saved(images: list[Image.Image], kind: str, **how: Any) -> bytes:
    out = io.BytesIO()
    images[0].save(out, kind, **(how | ({"save_all": True, "append_images": images[1:]} if len(images) > 1 else {})))  # fmt: skip
    return out.getvalue()


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # fmt: skip

    rows = zlib.compress(b"\0" * 1000)
    ihdr = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _bomb(side: int, rng: Rng) -> bytes:
    return _saved([Image.fromarray(np.zeros((side, side), np.uint8))], "PNG")


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


PICTURES: dict[str, tuple[Callable[[Rng], bytes], Expect]] = {
    "empty": (lambda rng: b"", "refuse"),
    "text": (lambda rng: b"no picture", "refuse"),
    "html": (lambda rng: b"<html><script>alert(1)</script>", "refuse"),
    "cut off": (lambda rng: picture(rng)[:-200], "refuse"),
    "16 bits": (lambda rng: _saved([Image.fromarray(rng.integers(0, 65536, (24, 24), dtype=np.uint16))], "PNG"), "refuse"),
    "float tiff": (lambda rng: _saved([Image.fromarray(rng.random((24, 24), np.float32))], "TIFF"), "refuse"),
    "nan tiff": (lambda rng: _saved([Image.fromarray(np.full((24, 24), np.nan, np.float32))], "TIFF"), "refuse"),
    "animated webp": (lambda rng: _saved(_images(3, rng), "WEBP", lossless=True), "refuse"),
    "animated png": (lambda rng: _saved(_images(3, rng), "PNG"), "refuse"),
    "animated gif": (lambda rng: _saved(_images(3, rng), "GIF"), "refuse"),
    "pages of a tiff": (lambda rng: _saved(_images(3, rng), "TIFF"), "refuse"),
    "second picture of a camera": (lambda rng: _saved(_images(2, rng), "MPO"), "accept"),
    "black": (lambda rng: _saved([Image.new("RGB", (24, 24))], "PNG"), "refuse"),
    "one colour": (lambda rng: _saved([Image.new("RGB", (24, 24), (9, 80, 200))], "PNG"), "refuse"),
    "grey": (lambda rng: picture(rng, mode="L"), "accept"),
    "palette": (lambda rng: picture(rng, mode="P"), "accept"),
    "transparent": (lambda rng: picture(rng, mode="RGBA"), "accept"),
    "one bit": (lambda rng: picture(rng, mode="1"), "accept"),
    "cmyk": (lambda rng: picture(rng, "JPEG", mode="CMYK"), "accept"),
    "upside down": (lambda rng: _saved(_images(1, rng), "JPEG", exif=_exif(3)), "accept"),
    "odd orientation": (lambda rng: _saved(_images(1, rng), "JPEG", exif=_exif(77)), "accept"),
    "too small": (lambda rng: picture(rng, side=3), "refuse"),
    "one pixel": (lambda rng: picture(rng, side=1), "refuse"),
    "10k bomb": (partial(_bomb, 10001), "refuse"),
    "20k bomb": (partial(_bomb, 20000), "refuse"),
    "header of 2 billion": (lambda rng: _png_header(46000, 46000), "refuse"),
    "header of 2^31": (lambda rng: _png_header(2**31 - 1, 2**31 - 1), "refuse"),
    "header without pixels": (lambda rng: _png_header(64, 64), "refuse"),
    "eps": (lambda rng: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n", "refuse"),
    "svg": (lambda rng: b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>', "refuse"),
}  # fmt: skip


def _placed(
    content: Callable[[Rng], bytes], place: str, root: Path, rng: Rng, values: Config
) -> None:
    (root / place).write_bytes(content(rng))


for _name, (_content, _expect) in PICTURES.items():
    for _world, _place in (("folder", "ill/000.png"), ("csv", "well/001.png"), ("pairs", "images/002.png")):  # fmt: skip
        KNOWN.append(Case(_name, _world, partial(broken, _world, partial(_placed, _content, _place)), _expect if _world != "pairs" or _name != "upside down" else "refuse", (Path(_place).stem,)))  # fmt: skip
for _name in ("empty", "text", "cut off", "16 bits", "animated png", "pages of a tiff", "10k bomb", "header of 2 billion", "too small", "transparent"):  # fmt: skip
    KNOWN.append(Case(f"a mask: {_name}", "pairs", partial(broken, "pairs", partial(_placed, PICTURES[_name][0], "masks/002.png")), "refuse", ("002",)))  # fmt: skip
for _value in (1, 7, 128, 254):
    KNOWN.append(Case(f"a mask of 0 and {_value}", "pairs", partial(broken, "pairs", partial(_placed, partial(mask, value=_value), "masks/004.png")), "refuse", ("004", str(_value))))  # fmt: skip
KNOWN.append(Case("a text on the table", "folder", partial(broken, "folder", partial(_placed, lambda rng: b"x" * 40_000_000, "ill/000.png")), "refuse", ("000",)))  # fmt: skip


@known("pairs", "refuse", "005")
def turned_by_its_tag_and_its_mask_is_not(root: Path, rng: Rng, values: Config) -> None:
    (root / "images" / "005.png").unlink()
    (root / "images" / "005.jpg").write_bytes(_saved(_images(1, rng), "JPEG", exif=_exif(3)))


@known("pairs", "refuse", "006", "crop")
def a_crop_that_takes_the_lesion(root: Path, rng: Rng, values: Config) -> None:
    values["source"]["fit"] = "crop"
    wide = np.zeros((24, 96), np.uint8)
    wide[8:16, 2:12] = 255
    Image.fromarray(rng.integers(0, 256, (24, 96, 3), dtype=np.uint8)).save(
        root / "images" / "006.png"
    )
    Image.fromarray(wide).save(root / "masks" / "006.png")


@known("pairs", "refuse", "007")
def masks_that_contradict_each_other(root: Path, rng: Rng, values: Config) -> None:
    values["source"] |= {"mask_suffix": "_mask", "labels": {255: "lesion", 90: "rim"}}
    for at in sorted((root / "masks").iterdir()):
        at.rename(at.with_stem(f"{at.stem}_mask"))
    whole = np.full((24, 24), 90, np.uint8)
    Image.fromarray(whole).save(root / "masks" / "007_mask_1.png")


# --- tables --------------------------------------------------------------------------------


def _rewritten(change: Callable[[list[list[str]]], list[list[str]] | None]) -> Break:
    def how(root: Path, rng: Rng, values: Config) -> None:
        with (root / "table.csv").open(newline="") as handle:
            rows = list(csv.reader(handle))
        rows = change(rows) or rows
        with (root / "table.csv").open("w", newline="", errors="surrogateescape") as handle:
            csv.writer(handle).writerows(rows)

    return how


def _tabled(name: str, expect: Expect, change: Callable[[list[list[str]]], Any], *words: str) -> None:  # fmt: skip
    KNOWN.append(Case(name, "csv", partial(broken, "csv", _rewritten(change)), expect, words))


def _marked(marker: str, rows: list[list[str]]) -> list[list[str]]:
    return [rows[0], *([p, marker if i % 3 == 0 else c] for i, (p, c) in enumerate(rows[1:]))]


def _listed_again(path: str, rows: list[list[str]]) -> list[list[str]]:
    return [*rows, [path, "well"]]


for _marker in ("NaN", "nan", "N/A", "n/a", "NA", "null", "None", "#N/A", "  ", "-", "?", ""):
    _tabled(f"labels {_marker!r}", "refuse", partial(_marked, _marker), "000.png")  # fmt: skip
_tabled("two labels in one", "refuse", lambda rows: [*rows[:4], *([p, "ill;well"] for p, _ in rows[4:8]), *rows[8:]], "ill;well")  # fmt: skip
for _again in ("./ill/000.png", "ill//000.png", "ill/../ill/000.png", "well/../ill/000.png"):
    _tabled(f"a file again as {_again}", "refuse", partial(_listed_again, _again), "000.png")  # fmt: skip
_tabled("a path of 300 characters", "refuse", lambda rows: [*rows, ["x" * 300, "well"]], "xxx")
_tabled("a path of 120000 characters", "refuse", lambda rows: [*rows, ["x" * 120_000, "well"]], "xxx")  # fmt: skip
_tabled("a path of a million characters", "refuse", lambda rows: [*rows, ["x" * 1_000_000, "well"]], "table.csv")  # fmt: skip
_tabled("a NUL in a path", "refuse", lambda rows: [*rows, ["ill/\0.png", "well"]], "ill/\\x00.png")
_tabled("a path out", "refuse", lambda rows: [*rows, ["../../etc/passwd", "well"]], "passwd")
_tabled("an absolute path", "refuse", lambda rows: [*rows, ["/etc/passwd", "well"]], "passwd")
_tabled("a folder as path", "refuse", lambda rows: [*rows, ["ill", "well"]], "ill")
_tabled("half a million rows", "refuse", lambda rows: [*rows, *([f"ill/{i}.jpg", "well"] for i in range(500_000))], "0.jpg")  # fmt: skip
_tabled("half a million rows of folders", "refuse", lambda rows: [*rows, *([f"ill/{i}/{i}.jpg", "well"] for i in range(500_000))], "0.jpg")  # fmt: skip
_tabled("backslashes", "refuse", lambda rows: [rows[0], *([p.replace("/", "\\"), c] for p, c in rows[1:])], "ill\\")  # fmt: skip
_tabled("no rows", "refuse", lambda rows: rows[:1], "csv")
_tabled("no header", "refuse", lambda rows: rows[1:], "table.csv")
_tabled("only one class", "refuse", lambda rows: rows[:9], "class")
_tabled("an unknown side", "refuse", lambda rows: [[*rows[0], "split"], *([*r, "tarin"] for r in rows[1:])], "tarin")  # fmt: skip
_tabled("a class of markup", "accept", lambda rows: [[p, c.replace("ill", "<script>alert(1)</script>")] for p, c in rows])  # fmt: skip
_tabled("a name that is no utf-8", "refuse", lambda rows: [*rows, ["ill/\udcff.png", "well"]], "table.csv")  # fmt: skip
_tabled("spaces around", "any", lambda rows: [[f" {p}", f"{c} "] for p, c in rows])


@known("csv", "refuse", "000.png", "001.png")
def the_same_pixels_with_two_labels(root: Path, rng: Rng, values: Config) -> None:
    (root / "well" / "001.png").write_bytes((root / "ill" / "000.png").read_bytes())


@known("folder", "refuse", "00_000.png", "00_001.png")
def the_same_pixels_with_two_labels_in_a_group(root: Path, rng: Rng, values: Config) -> None:
    for label in ("ill", "well"):
        for at in sorted((root / label).iterdir()):
            number = int(at.stem)
            at.rename(at.with_name(f"{number // 2:02d}{'' if number < 2 else label}_{at.name}"))
    (root / "well" / "00_001.png").write_bytes((root / "ill" / "00_000.png").read_bytes())
    values["source"]["group_pattern"] = "^([^_]+)_"


# --- archives ------------------------------------------------------------------------------


def _damaged_member(method: int, root: Path, rng: Rng, values: Config) -> None:
    at = root / "HAM10000_images_part_1.zip"
    with zipfile.ZipFile(at) as archive:
        content = {m.filename: archive.read(m) for m in archive.infolist()}
    with zipfile.ZipFile(at, "w", method) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with zipfile.ZipFile(at) as archive:
        start = archive.infolist()[0].header_offset + 60
    damaged = bytearray(at.read_bytes())
    damaged[start : start + 300] = rng.bytes(300)
    at.write_bytes(bytes(damaged))


for _name, _method in (("deflate", 8), ("bzip2", 12), ("lzma", 14), ("stored", 0)):
    KNOWN.append(Case(f"a damaged member, {_name}", "ham10000", partial(broken, "ham10000", partial(_damaged_member, _method)), "refuse", ("ISIC_0",)))  # fmt: skip


@known("ham10000", "refuse", "ISIC_3")
def a_bomb_in_a_zip(root: Path, rng: Rng, values: Config) -> None:
    at = root / "HAM10000_images_part_1.zip"
    with zipfile.ZipFile(at) as archive:
        content = {m.filename: archive.read(m) for m in archive.infolist()}
    content["ISIC_3.jpg"] = b"\0" * (1200 << 20)
    with zipfile.ZipFile(at, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


@known("ham10000", "refuse", "ISIC_5")
def a_mask_of_zeros_and_ones(root: Path, rng: Rng, values: Config) -> None:
    at = root / "HAM10000_segmentations_lesion_tschandl.zip"
    with zipfile.ZipFile(at) as archive:
        content = {m.filename: archive.read(m) for m in archive.infolist()}
    content["ISIC_5_segmentation.png"] = mask(rng, 1, 64)
    with zipfile.ZipFile(at, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


@known("medmnist", "refuse", "breastmnist.npz")
def no_zip(root: Path, rng: Rng, values: Config) -> None:
    (root / "breastmnist.npz").write_bytes(b"no zip")


@known("medmnist", "refuse", "breastmnist.npz")
def a_damaged_array(root: Path, rng: Rng, values: Config) -> None:
    at = root / "breastmnist.npz"
    data = bytearray(at.read_bytes())
    data[400:900] = rng.bytes(500)
    at.write_bytes(bytes(data))


def _npz(**arrays: Any) -> Break:
    def how(root: Path, rng: Rng, values: Config) -> None:
        with np.load(root / "breastmnist.npz") as found:
            all_of = dict(found)
        np.savez_compressed(root / "breastmnist.npz", **(all_of | arrays))

    return how


for _name, _arrays in {
    "objects": {"train_images": np.array([{}] * 24, object)},
    "floats": {"train_images": np.zeros((24, 28, 28))},
    "a label too many": {"train_labels": np.full((24, 1), 9, np.uint8)},
    "negative labels": {"train_labels": np.full((24, 1), -1, np.int64)},
    "labels of floats": {"train_labels": np.full((24, 1), np.nan)},
    "too few labels": {"train_labels": np.zeros((3, 1), np.uint8)},
    "no images": {"train_images": np.zeros((0, 28, 28), np.uint8), "train_labels": np.zeros((0, 1), np.uint8)},
    "black images": {"train_images": np.zeros((24, 28, 28), np.uint8)},
}.items():  # fmt: skip
    KNOWN.append(Case(_name, "medmnist", partial(broken, "medmnist", _npz(**_arrays)), "refuse"))


@known("medmnist", "refuse", "breastmnist.npz")
def a_header_of_a_petabyte(root: Path, rng: Rng, values: Config) -> None:
    at = root / "breastmnist.npz"
    with zipfile.ZipFile(at) as archive:
        content = {m: archive.read(m) for m in archive.namelist()}
    head = content["train_images.npy"]
    content["train_images.npy"] = head.replace(b"(24, 28, 28)", b"(24, 2**40, 28)"[:12])
    content["val_images.npy"] = content["val_images.npy"].replace(
        b"(12, 28, 28), }  ", b"(1299999, 28, 28)}"
    )
    with zipfile.ZipFile(at, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


# --- findings, grades, volumes with a class --------------------------------------------------


def _cell(line: int, column: int, text: str, root: Path, rng: Rng, values: Config) -> None:
    at = root / "table.csv"
    rows = list(csv.reader(at.read_text().splitlines()))
    rows[line][column] = text
    with at.open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)


for _name, _line, _column, _text, _expect, _words in (
    ("a value that is none", 3, 2, "maybe", "refuse", ("nodule", "'maybe'")),
    ("an uncertain value", 3, 2, "-1", "refuse", ("nodule", "uncertain")),
    ("a missing value", 3, 2, "", "refuse", ("nodule", "missing")),
    ("a value of NaN", 3, 3, "nan", "refuse", ("mass", "'nan'")),
    ("a value of 1.0", 1, 2, "0.0", "accept", ()),
    ("no image", 3, 0, "", "refuse", ("line 4",)),
    ("an image that there is not", 3, 0, "x.png", "refuse", ("x.png",)),
    ("an image outside", 3, 0, "../../../etc/passwd", "refuse", ("passwd",)),
    ("the image of another row", 3, 0, "000.png", "refuse", ("000.png", "rows")),
    ("no patient", 3, 1, "", "refuse", ("002.png", "group")),
    ("a column of another name", 0, 3, "masses", "refuse", ("'mass'", "masses")),
    ("a column twice", 0, 3, "nodule", "refuse", ("nodule",)),
    ("a cell of a million letters", 3, 2, "1" * 1_000_000, "refuse", ("table.csv",)),
    ("a byte of zero", 3, 2, "1\0", "refuse", ()),
):  # fmt: skip
    KNOWN.append(Case(_name, "findings", partial(broken, "findings", partial(_cell, _line, _column, _text)), _expect, _words))  # fmt: skip


@known("findings", "refuse", "edema")
def a_finding_that_no_image_has(root: Path, rng: Rng, values: Config) -> None:
    for line in range(1, 49):
        _cell(line, 4, "0", root, rng, values)


@known("findings", "refuse", "001.png", "000.png")
def the_same_pixels_with_other_findings(root: Path, rng: Rng, values: Config) -> None:
    (root / "images/001.png").write_bytes((root / "images/000.png").read_bytes())


@known("findings", "refuse", "table.csv")
def a_table_of_headings(root: Path, rng: Rng, values: Config) -> None:
    at = root / "table.csv"
    at.write_text(at.read_text().splitlines()[0] + "\n")


@known("grades", "refuse", "multiclass")
def two_grades(root: Path, rng: Rng, values: Config) -> None:
    values["source"]["classes"] = ["well", "ill"]
    for path in (root / "worst").iterdir():
        path.rename(root / "ill" / f"w{path.name}")
    (root / "worst").rmdir()


@known("grades", "refuse", "worst")
def a_folder_that_is_no_grade(root: Path, rng: Rng, values: Config) -> None:
    values["source"]["classes"] = ["well", "ill", "bad"]


def _volume(change: Callable[[np.ndarray], np.ndarray], root: Path, rng: Rng, values: Config) -> None:  # fmt: skip
    at = root / "ill" / "c1.nii.gz"
    image = nib.load(at)
    found = change(np.asarray(image.dataobj))  # type: ignore[attr-defined]
    nib.save(nib.Nifti1Image(found, image.affine), at)  # type: ignore[attr-defined]


for _name, _expect, _change in (
    ("constant", "refuse", lambda v: v * 0),
    ("a NaN", "refuse", lambda v: np.where(v == v.max(), np.nan, v)),
    ("two axes", "refuse", lambda v: v[:, :, 0]),
    ("two channels", "refuse", lambda v: np.stack([v] * 2, -1)),
    ("of one slice", "refuse", lambda v: v[:, :, :1]),
    ("another shape", "accept", lambda v: v[:-4]),
):  # fmt: skip
    KNOWN.append(Case(f"a volume: {_name}", "volumes", partial(broken, "volumes", partial(_volume, _change)), _expect, ("c1",)))  # fmt: skip


@known("volumes", "refuse", "c1.nii.gz")
def a_volume_that_is_none(root: Path, rng: Rng, values: Config) -> None:
    (root / "ill" / "c1.nii.gz").write_bytes(b"none")


@known("volumes", "refuse", "ill/c1", "well/c1")
def the_same_volume_with_two_classes(root: Path, rng: Rng, values: Config) -> None:
    (root / "well/c1.nii.gz").write_bytes((root / "ill/c1.nii.gz").read_bytes())


# --- NIfTI ---------------------------------------------------------------------------------

FIELDS = {"dim0": (40, "h"), "dim1": (42, "h"), "dim2": (44, "h"), "dim3": (46, "h"), "dim4": (48, "h"), "datatype": (70, "h"),
          "bitpix": (72, "h"), "pixdim0": (76, "f"), "pixdim1": (80, "f"), "pixdim3": (88, "f"), "vox_offset": (108, "f"),
          "scl_slope": (112, "f"), "scl_inter": (116, "f"), "qform": (252, "h"), "sform": (254, "h"), "quatern_b": (256, "f"),
          "srow_x0": (280, "f"), "srow_x3": (292, "f"), "srow_z2": (320, "f"), "sizeof_hdr": (0, "i"), "magic": (344, "i")}  # fmt: skip
FLOATS = (float("nan"), float("inf"), float("-inf"), 0.0, -1.0, 1e-30, 1e30, 0.01, 60.0, 1000.0)
WHOLES = (0, -1, -5, 1, 2, 7, 255, 1000, 32767, -32768)


def _patched(part: str, edits: dict[str, float], root: Path, rng: Rng, values: Config) -> None:
    at = root / part / "c1.nii.gz"
    data = bytearray(gzip.decompress(at.read_bytes()))
    for field, value in edits.items():
        offset, code = FIELDS[field]
        struct.pack_into(f"<{code}", data, offset, value)
    at.write_bytes(gzip.compress(bytes(data), 1))


def _nifti(name: str, expect: Expect, **edits: float) -> None:
    KNOWN.append(Case(name, "nifti", partial(broken, "nifti", partial(_patched, "images", edits)), expect, ("c1",)))  # fmt: skip


for _field in ("scl_slope", "scl_inter"):
    for _number in (float("nan"), float("inf"), float("-inf")):
        _nifti(f"{_field} {_number}", "any", **{_field: _number})
_nifti("dim1 -5", "refuse", dim1=-5)
_nifti("dim1 30000", "refuse", dim1=30000)
_nifti("vox_offset inf", "refuse", vox_offset=float("inf"))
_nifti("vox_offset nan", "refuse", vox_offset=float("nan"))
_nifti("vox_offset -1e30", "refuse", vox_offset=-1e30)
_nifti("vox_offset 2e9", "refuse", vox_offset=2e9)


def _spaced(mm: float, root: Path, rng: Rng, values: Config) -> None:
    affine = np.diag([mm, mm, mm, 1.0])
    for part, kind in (("images", np.int16), ("masks", np.uint8)):
        at = root / part / "c1.nii.gz"
        found = np.asarray(nib.load(at).dataobj)  # type: ignore[attr-defined]
        nib.save(nib.Nifti1Image(found.astype(kind), affine), at)


for _mm in (1e-5, 0.01, 0.05, 25.0, 30.0, 60.0, 1000.0, 1e6):
    KNOWN.append(Case(f"voxels of {_mm} mm", "nifti", partial(broken, "nifti", partial(_spaced, _mm)), "refuse", ("c1", "mm")))  # fmt: skip


def _whole(change: Callable[[np.ndarray], np.ndarray], part: str, root: Path, rng: Rng, values: Config) -> None:  # fmt: skip
    at = root / part / "c1.nii.gz"
    image = nib.load(at)
    found = change(np.asarray(image.dataobj))  # type: ignore[attr-defined]
    nib.save(nib.Nifti1Image(found, image.affine), at)  # type: ignore[attr-defined]


for _name, _expect, _part, _change in (
    ("below the window", "refuse", "images", lambda v: v - 20000),
    ("constant", "refuse", "images", lambda v: v * 0),
    ("a NaN", "refuse", "images", lambda v: np.where(v == v.max(), np.nan, v)),
    ("an infinity", "refuse", "images", lambda v: np.where(v == v.max(), np.inf, v)),
    ("complex", "refuse", "images", lambda v: v.astype(np.complex64)),
    ("two axes", "refuse", "images", lambda v: v[:, :, 0]),
    ("five axes", "refuse", "images", lambda v: np.stack([np.stack([v] * 2, -1)] * 2, -1)),
    ("two channels", "refuse", "images", lambda v: np.stack([v] * 2, -1)),
    ("a label too many", "refuse", "masks", lambda v: v + (v > 0)),
    ("a label of 255", "refuse", "masks", lambda v: np.where(v == 1, 255, v).astype(np.uint8)),
    ("halves", "refuse", "masks", lambda v: v.astype(np.float32) / 2),
    ("NaN in a mask", "refuse", "masks", lambda v: np.where(v == 1, np.nan, v)),
    ("a smaller mask", "refuse", "masks", lambda v: v[:-1]),
    ("big endian", "accept", "images", lambda v: v.astype(">i2")),
    ("float64", "accept", "images", lambda v: v.astype(np.float64)),
):  # fmt: skip

    def _windowed(name: str, change: Any, part: str, root: Path, rng: Rng, values: Config) -> None:
        if name == "below the window":
            values["volume"]["intensity"] = {"kind": "window", "low": -160, "high": 240}
        _whole(change, part, root, rng, values)

    KNOWN.append(Case(_name, "nifti", partial(broken, "nifti", partial(_windowed, _name, _change, _part)), _expect, ("c1",)))  # fmt: skip


def _gz_bomb(kind: type, root: Path, rng: Rng, values: Config) -> None:
    side = 1000
    for part in ("images", "masks"):
        header = nib.Nifti1Image(np.zeros((2, 2, 2), kind), np.diag([2.0, 2, 2, 1])).header
        header.set_data_shape((side, side, side))
        header["scl_slope"], header["scl_inter"], header["vox_offset"] = 1.5, 0.5, 352
        with gzip.open(root / part / "c1.nii.gz", "wb", compresslevel=1) as out:
            out.write(header.binaryblock + b"\0" * 4)
            for _ in range(side):
                out.write(b"\0" * (side * side * np.dtype(kind).itemsize))


KNOWN.append(Case("a gz bomb", "nifti", partial(broken, "nifti", partial(_gz_bomb, np.uint8)), "refuse", ("c1",)))  # fmt: skip


@known("nifti", "refuse", "c1")
def a_bomb_behind_the_voxels(root: Path, rng: Rng, values: Config) -> None:
    at = root / "images" / "c1.nii.gz"
    data = bytearray(gzip.decompress(at.read_bytes()))
    struct.pack_into("<f", data, 108, 1.6e9)
    with gzip.open(at, "wb", compresslevel=1) as out:
        out.write(bytes(data))
        for _ in range(1600):
            out.write(b"\0" * (1 << 20))


@known("nifti", "refuse", "c1")
def an_extension_of_two_gigabytes(root: Path, rng: Rng, values: Config) -> None:
    at = root / "images" / "c1.nii.gz"
    data = bytearray(gzip.decompress(at.read_bytes()))
    data[348:352] = b"\1\0\0\0"
    struct.pack_into("<f", data, 108, 2e9)
    data[352:360] = struct.pack("<ii", 2_000_000_000 // 16 * 16, 4)
    at.write_bytes(gzip.compress(bytes(data), 1))


for _name, _cut in (("no gzip", lambda d: b"no gzip"), ("half a gzip", lambda d: d[: len(d) // 2]), ("a wrong checksum", lambda d: d[:-8] + b"\0" * 8),
                    ("nothing", lambda d: b""), ("a header only", lambda d: gzip.compress(gzip.decompress(d)[:348])), ("an uncompressed file", gzip.decompress)):  # fmt: skip

    def _cut_off(cut: Any, root: Path, rng: Rng, values: Config) -> None:
        at = root / "images" / "c1.nii.gz"
        at.write_bytes(cut(at.read_bytes()))

    KNOWN.append(Case(_name, "nifti", partial(broken, "nifti", partial(_cut_off, _cut)), "refuse", ("c1",)))  # fmt: skip


# --- the Decathlon's description -----------------------------------------------------------


def _described(content: Any, root: Path, rng: Rng, values: Config) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (root / "dataset.json").write_text(text)


_PAIR = {"image": "imagesTr/c0.nii.gz", "label": "labelsTr/c0.nii.gz"}
for _name, _description in {
    "deep nesting": "[" * 200_000,
    "deep nesting of objects": '{"labels":' * 100_000,
    "labels of null": {"labels": {"1": None}, "training": [_PAIR]},
    "labels of true": {"labels": {"organ": True}, "training": [_PAIR]},
    "labels of a list": {"labels": {"1": ["a"]}, "training": [_PAIR]},
    "labels of NaN": '{"labels": {"organ": NaN}}',
    "labels of 1e999": '{"labels": {"organ": 1e999}}',
    "a label of a million digits": '{"labels": {"organ": ' + "1" * 1_000_000 + "}}",
    "labels 1 twice": {"labels": {"1": "a", "01": "b"}, "training": [_PAIR]},
    "no labels": {"labels": {}, "training": [_PAIR]},
    "NUL in a path": {"labels": {"1": "a"}, "training": [_PAIR | {"image": "imagesTr/c\0.nii.gz"}]},
    "a long name": {"labels": {"1": "a"}, "training": [_PAIR | {"image": f"imagesTr/{'c' * 400}.nii.gz"}]},
    "a path out": {"labels": {"1": "a"}, "training": [_PAIR | {"image": "../../etc/c.nii.gz"}]},
    "a path that is a number": {"labels": {"1": "a"}, "training": [{"image": 3, "label": 4}]},
    "an empty training list": {"labels": {"1": "a"}, "training": []},
    "half a file": '{"labels": {"1"',
    "a list": "[]",
    "a number": "1",
    "nothing": "",
}.items():  # fmt: skip
    KNOWN.append(Case(f"dataset.json: {_name}", "decathlon", partial(broken, "decathlon", partial(_described, _description)), "refuse"))  # fmt: skip


# --- DICOM ---------------------------------------------------------------------------------


def _element(tag: int, vr: str, value: Any) -> DataElement:
    return DataElement(tag, vr, value, validation_mode=0)


_TAGS = {"PixelSpacing": 0x00280030, "ImagePositionPatient": 0x00200032, "ImageOrientationPatient": 0x00200037,
         "RescaleSlope": 0x00281053, "RescaleIntercept": 0x00281052, "Rows": 0x00280010, "Columns": 0x00280011,
         "BitsAllocated": 0x00280100, "BitsStored": 0x00280101, "HighBit": 0x00280102, "PixelRepresentation": 0x00280103,
         "SamplesPerPixel": 0x00280002, "NumberOfFrames": 0x00280008, "PatientID": 0x00100020, "PhotometricInterpretation": 0x00280004,
         "WindowCenter": 0x00281050, "WindowWidth": 0x00281051, "PixelData": 0x7FE00010}  # fmt: skip


def _texted(path: Path, tag: int, text: str) -> None:
    """Set a decimal string of a file to any text, which pydicom would not write."""
    data = pydicom.dcmread(path)
    data.pop(tag, None)
    raw = text.encode() + b" " * (len(text) % 2)
    data.add(_element(tag, "LO", "\\".join(["@"] * 1) + "@" * (len(raw) - 1)))
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    group, element = struct.pack("<HH", tag >> 16, tag & 0xFFFF)[:2], struct.pack("<H", tag & 0xFFFF)  # fmt: skip
    content = out.getvalue().replace(group + element + b"LO" + struct.pack("<H", len(raw)) + b"@" * len(raw),
                                     group + element + b"DS" + struct.pack("<H", len(raw)) + raw, 1)  # fmt: skip
    path.write_bytes(content)


def _slices(root: Path) -> list[Path]:
    return sorted((root / "images" / "c1").iterdir())


def _dicom_text(tag: str, text: str, all_of: bool, root: Path, rng: Rng, values: Config) -> None:
    for path in _slices(root) if all_of else _slices(root)[4:5]:
        _texted(path, _TAGS[tag], text)


for _tag, _texts in {
    "PixelSpacing": ("two\\two", "", "2", "2\\2\\2", "nan\\2", "inf\\inf", "0\\0", "-2\\-2", "1e-9\\1e-9", "1000\\1000", "60\\60"),
    "ImagePositionPatient": ("here", "", "1\\2", "nan\\nan\\nan", "1e400\\0\\0", "inf\\0\\0"),
    "ImageOrientationPatient": ("", "1\\0\\0", "0\\0\\0\\0\\0\\0", "nan\\0\\0\\0\\1\\0", "1\\0\\0\\1\\0\\0", "2\\0\\0\\0\\2\\0"),
    "RescaleSlope": ("steep", "", "nan", "inf", "0", "1\\2"),
    "RescaleIntercept": ("low", "", "nan", "-inf", "1\\2"),
}.items():  # fmt: skip
    for _text in _texts:
        for _all in (False, True):
            KNOWN.append(Case(f"{_tag} {_text!r} of {'all' if _all else 'one'}", "dicom", partial(broken, "dicom", partial(_dicom_text, _tag, _text, _all)), "refuse", ("c1",)))  # fmt: skip


def _dicom_set(edits: dict[str, Any], all_of: bool, root: Path, rng: Rng, values: Config) -> None:
    for path in _slices(root) if all_of else _slices(root)[4:5]:
        data = pydicom.dcmread(path)
        for key, value in edits.items():
            setattr(data, key, value)
        data.save_as(path, enforce_file_format=True)


for _name, _edits, _all in (
    ("moved by 50 mm", {"ImagePositionPatient": [30.0, 30.0, 48.0]}, False),
    ("MONOCHROME1", {"PhotometricInterpretation": "MONOCHROME1"}, False),
    ("another patient", {"PatientID": "somebody else"}, False),
    ("no patient", {"PatientID": ""}, False),
    ("another frame of reference", {"FrameOfReferenceUID": "1.2.3.99"}, False),
    ("another series", {"SeriesInstanceUID": "1.2.3.99"}, False),
    ("MR among CT", {"Modality": "MR"}, False),
    ("rows of 0", {"Rows": 0}, False),
    ("rows of 60000", {"Rows": 60000}, True),
    ("columns of 65535", {"Columns": 65535, "Rows": 65535}, False),
    ("11 bits", {"BitsAllocated": 11}, False),
    ("64 bits", {"BitsAllocated": 64}, True),
    ("no bits", {"BitsStored": 0}, True),
    ("frames of a billion", {"NumberOfFrames": 1_000_000_000}, False),
    ("frames of -1", {"NumberOfFrames": -1}, False),
    ("three samples", {"SamplesPerPixel": 3}, True),
    ("no photometric", {"PhotometricInterpretation": ""}, False),
    ("half the pixels", {"PixelData": b"\0" * 360}, False),
    ("no pixels", {"PixelData": b""}, False),
):  # fmt: skip
    KNOWN.append(Case(f"{_name}, {'all' if _all else 'one'}", "dicom", partial(broken, "dicom", partial(_dicom_set, _edits, _all)), "refuse", ("c1",)))  # fmt: skip


def _float_pixels(value: float, root: Path, rng: Rng, values: Config) -> None:
    for path in _slices(root):
        data = pydicom.dcmread(path)
        pixels = data.pixel_array.astype(np.float32)
        pixels[3, 3] = value
        del data.PixelData
        data.BitsAllocated = 32
        for key in ("BitsStored", "HighBit", "PixelRepresentation"):
            delattr(data, key)
        data.FloatPixelData = pixels.tobytes()
        data.save_as(path, enforce_file_format=True)


for _number in (float("nan"), float("inf"), float("-inf")):
    KNOWN.append(Case(f"float pixels {_number}", "dicom", partial(broken, "dicom", partial(_float_pixels, _number)), "refuse", ("c1",)))  # fmt: skip
KNOWN.append(Case("float pixels", "dicom", partial(broken, "dicom", partial(_float_pixels, 5.0)), "any"))  # fmt: skip


@known("dicom", "refuse", "c1")
def a_deflated_bomb(root: Path, rng: Rng, values: Config) -> None:
    path = _slices(root)[4]
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    start = 132 + 12 + pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength
    inner = zlib.decompress(content[start:], -15)
    squeeze = zlib.compressobj(1, zlib.DEFLATED, -15)
    with path.open("wb") as out:
        out.write(content[:start] + squeeze.compress(inner))
        out.write(
            squeeze.compress(struct.pack("<HH2sHI", 0x7FE1, 0x1010, b"OB", 0, 0xFFFFFF00 - 1500))
        )
        for _ in range(2600):
            out.write(squeeze.compress(b"\0" * (1 << 20)))
        out.write(squeeze.flush())


@known("dicom", "accept")
def deflated(root: Path, rng: Rng, values: Config) -> None:
    for path in _slices(root):
        data = pydicom.dcmread(path)
        data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        data.save_as(path, enforce_file_format=True)


@known("dicom", "refuse", "c1")
def a_run_length_bomb(root: Path, rng: Rng, values: Config) -> None:
    path = _slices(root)[4]
    data = pydicom.dcmread(path)
    data.Rows = data.Columns = 30000
    segment = b"\x81\0" * (30000 * 30000 // 128 + 1)
    header = struct.pack("<16I", 2, 64, 64 + len(segment), *[0] * 13)
    data.file_meta.TransferSyntaxUID = RLELossless
    data.PixelData = pydicom.encaps.encapsulate([header + segment + segment])
    data["PixelData"].is_undefined_length = True
    data.save_as(path, enforce_file_format=True)


def _jpeg2000_bomb(side: int, root: Path, rng: Rng, values: Config) -> None:
    path = _slices(root)[4]
    data = pydicom.dcmread(path)
    out = io.BytesIO()
    Image.fromarray(np.zeros((side, side), np.uint8)).save(out, "JPEG2000", no_jp2=True)
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
    data.PixelData = pydicom.encaps.encapsulate([out.getvalue()])
    data["PixelData"].is_undefined_length = True
    data.save_as(path, enforce_file_format=True)


KNOWN.append(Case("JPEG 2000 larger than its header", "dicom", partial(broken, "dicom", partial(_jpeg2000_bomb, 6000)), "refuse", ("c1",)))  # fmt: skip


@known("dicom", "refuse", "c1")
def sequences_without_a_floor(root: Path, rng: Rng, values: Config) -> None:
    path = _slices(root)[4]
    start = struct.pack("<HH2sHI", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    content = path.read_bytes()
    at = 132 + 12 + pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength
    path.write_bytes(content[:at] + (start + item) * 50_000)


def _picture_dicom(edits: dict[str, Any], texts: dict[str, str], root: Path, rng: Rng, values: Config) -> None:  # fmt: skip
    from volume_factory import write_series

    stack = rng.integers(0, 1000, (1, 24, 24)).astype(np.int16)
    path = write_series(root.parent / "one", stack, **edits)[0]
    for tag, text in texts.items():
        _texted(path, _TAGS[tag], text)
    path.rename(root / "ill" / "000.dcm")


for _name, _edits, _strings, _expect in (
    ("a slice", {}, {}, "accept"),
    ("a window of NaN", {}, {"WindowCenter": "nan", "WindowWidth": "400"}, "refuse"),
    ("a width of NaN", {}, {"WindowCenter": "40", "WindowWidth": "nan"}, "refuse"),
    ("a width of inf", {}, {"WindowCenter": "40", "WindowWidth": "inf"}, "refuse"),
    ("a window of text", {}, {"WindowCenter": "bone", "WindowWidth": "wide"}, "refuse"),
    ("a slope of NaN", {}, {"RescaleSlope": "nan"}, "refuse"),
    ("a slope of inf", {}, {"RescaleSlope": "inf"}, "refuse"),
    ("a slope of 0", {}, {"RescaleSlope": "0"}, "refuse"),
    ("an empty slope", {}, {"RescaleSlope": ""}, "any"),
    ("many frames", {"NumberOfFrames": 1000}, {}, "refuse"),
    ("40000 rows", {"Rows": 40000, "Columns": 40000}, {}, "refuse"),
):  # fmt: skip
    KNOWN.append(Case(f"DICOM: {_name}", "folder", partial(broken, "folder", partial(_picture_dicom, _edits, _strings)), _expect, ("000.dcm",)))  # fmt: skip


# --- readers of one's own ------------------------------------------------------------------

_READER = """
import numpy as np
from edgeward.data.listing import Batch, Listing
def open_source(request):
    rng = np.random.default_rng(0)
    n = 40
    images = rng.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    def batches():
        {batches}
    facts = dict(classes=["a", "b"], ids=[f"im{{i}}" for i in range(n)], groups=[f"g{{i}}" for i in range(n)], labels=np.arange(n) % 2,
                 splits=None, source="own", licence="none", citation="none", channels=3, batches=batches)
    {facts}
    return Listing(**facts)
"""


def _own(batches: str, facts: str, root: Path, rng: Rng, values: Config) -> Config:
    name = f"fuzz_reader_{abs(hash((batches, facts)))}"
    (root / f"{name}.py").write_text(_READER.format(batches=batches, facts=facts))
    sys.path.insert(0, str(root))
    return values | {
        "source": {"kind": "python", "module": name, "options": {}},
        "calibration": {"n": 4, "min_per_class": 0},
    }


_WELL = "yield Batch(np.arange(n), images)"
for _name, _batches, _facts, _expect in (
    ("healthy", _WELL, "", "accept"),
    ("raises in the middle", "yield Batch(np.arange(9), images[:9]); raise KeyError('x')", "", "refuse"),
    ("raises at once", _WELL, "raise ZeroDivisionError('boom')", "refuse"),
    ("gives floats", "yield Batch(np.arange(n), images.astype(np.float32))", "", "refuse"),
    ("gives another shape", "yield Batch(np.arange(n), images[:, :8])", "", "refuse"),
    ("gives fewer images than rows", "yield Batch(np.arange(n), images[:7])", "", "refuse"),
    ("gives rows that there are not", "yield Batch(np.arange(n) + 7, images)", "", "refuse"),
    ("gives a row twice", "yield Batch(np.zeros(n, int), images)", "", "refuse"),
    ("labels out of range", _WELL, "facts['labels'] = np.arange(n) % 3", "refuse"),
    ("labels of floats", _WELL, "facts['labels'] = (np.arange(n) % 2) * 1.0", "any"),
    ("fewer labels", _WELL, "facts['labels'] = facts['labels'][:5]", "refuse"),
    ("fewer groups", _WELL, "facts['groups'] = ['g']", "refuse"),
    ("the same id twice", _WELL, "facts['ids'] = ['x'] * n", "refuse"),
    ("unknown sides", _WELL, "facts['splits'] = np.array(['train', 'tset'] * 20)", "any"),
    ("nothing", "return iter(())", "", "refuse"),
    ("no Listing", _WELL, "return {}", "refuse"),
):  # fmt: skip
    KNOWN.append(Case(_name, "python", partial(broken, "folder", partial(_own, _batches, _facts)), _expect))  # fmt: skip


# --- mutants -------------------------------------------------------------------------------


def _mutated(data: bytes, rng: Rng) -> bytes:
    """Return bytes with a few faults."""
    found = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        size = max(1, len(found))
        at, n = int(rng.integers(size)), int(rng.integers(1, 64))
        how = int(rng.integers(8))
        if how == 0:
            found[at : at + n] = rng.bytes(n)
        elif how == 1:
            del found[at:]
        elif how == 2:
            found[at:at] = rng.bytes(n)
        elif how == 3:
            del found[at : at + n]
        elif how == 4:
            found[at : at + n] = b"\0" * n
        elif how == 5:
            found[at : at + n] = b"\xff" * n
        elif how == 6 and found:
            found[min(at, 400) % size] ^= 1 << int(rng.integers(8))
        else:
            found += found[at : at + 4096]
    return bytes(found)


def _mutant(root: Path, rng: Rng, values: Config) -> None:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    for _ in range(int(rng.integers(1, 3))):
        at = files[int(rng.integers(len(files)))]
        data = at.read_bytes()
        inside = at.suffix == ".gz" and rng.random() < 0.7
        if inside:
            try:
                at.write_bytes(gzip.compress(_mutated(gzip.decompress(data), rng), 1))
                continue
            except (OSError, EOFError, zlib.error):
                pass
        at.write_bytes(_mutated(data, rng))


def _mutant_header(root: Path, rng: Rng, values: Config) -> None:
    edits = {}
    for field in rng.choice(sorted(FIELDS), int(rng.integers(1, 4)), replace=False).tolist():
        choices = FLOATS if FIELDS[field][1] == "f" else WHOLES
        edits[field] = choices[int(rng.integers(len(choices)))]
    _patched(str(rng.choice(["images", "masks"])), edits, root, rng, values)


_VALUES: tuple[Any, ...] = ("nan", "inf", "0", "-1", "1e30", "1e-30", "x", "", "1\\2", "1\\2\\3", "99999999999999999999")  # fmt: skip


def _mutant_dicom(root: Path, rng: Rng, values: Config) -> None:
    texts = [tag for tag in _TAGS if tag.startswith(("Pixel", "Image", "Rescale", "Window")) and tag not in ("PixelData", "PixelRepresentation")]  # fmt: skip
    paths = _slices(root)
    chosen = paths if rng.random() < 0.4 else [paths[int(rng.integers(len(paths)))]]
    tag = str(rng.choice(sorted(texts)))
    text = str(_VALUES[int(rng.integers(len(_VALUES)))])
    whole = str(rng.choice(["Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel"]))  # fmt: skip
    number = int(rng.choice([0, 1, 3, 7, 8, 12, 17, 32, 63, 65535]))
    for path in chosen:
        if rng.random() < 0.5:
            _texted(path, _TAGS[tag], text)
        else:
            data = pydicom.dcmread(path)
            setattr(data, whole, number)
            data.save_as(path, enforce_file_format=True)


MUTANTS: tuple[tuple[str, Break], ...] = (
    *((world, _mutant) for world in WORLDS),
    ("nifti", _mutant_header),
    ("dicom", _mutant_dicom),
)


def corpus(n: int, seed: int) -> list[Case]:
    """Return all known cases, and mutants until there are `n`; the same for the same seed."""
    cases = [*KNOWN, *(Case(*one) for one in config_cases())]
    for number in range(n - len(cases)):
        world, how = MUTANTS[number % len(MUTANTS)]
        cases.append(Case(f"{how.__name__.strip('_')} {seed}/{number}", world, partial(broken, world, how)))  # fmt: skip
    return cases
