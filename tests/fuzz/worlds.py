"""Small healthy data sets on disk, one of each source, for the corpus to break."""

from __future__ import annotations

import csv
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from shipped import shipped
from volume_factory import blob, write_nifti, write_series

Config = dict[str, Any]
SIDE = 24


def picture(
    rng: np.random.Generator, kind: str = "PNG", side: int = SIDE, mode: str = "RGB", **how: Any
) -> bytes:
    """An image file of noise."""
    out = io.BytesIO()
    pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(out, kind, **how)
    return out.getvalue()


def mask(rng: np.random.Generator, value: int = 255, side: int = SIDE) -> bytes:
    """A mask file with a box in the middle."""
    out, pixels = io.BytesIO(), np.zeros((side, side), np.uint8)
    a, b = rng.integers(4, side // 2), rng.integers(side // 2 + 1, side - 4)
    pixels[a:b, a:b] = value
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def config(name: str, source: Config, **changes: Any) -> Config:
    """A shipped config for these small sets."""
    values = shipped("data", name)
    values["source"] = values["source"] | {"path": "set"} | source
    values["calibration"] = {"n": 4, "min_per_class": 0}
    if values["volume"] is not None:
        values["volume"] |= {
            "spacing": (2, 2, 2),
            "min_side": 8,
            "intensity": {"kind": "percentile"},
        }
    else:
        values["image_size"] = 16
    return values | {"name": "fuzz"} | changes


def folder(root: Path, rng: np.random.Generator, n: int = 10) -> Config:
    """Class folders."""
    for label in ("ill", "well"):
        (root / "set" / label).mkdir(parents=True)
        for i in range(n):
            (root / "set" / label / f"{i:03d}.png").write_bytes(picture(rng))
    return config("folder", {"kind": "folder", "min_side": 16, "layout": "class_folders", "csv": None, "classes": None, "group_pattern": None})  # fmt: skip


def table(root: Path, rng: np.random.Generator, n: int = 10) -> Config:
    """A table of images in one folder."""
    values = folder(root, rng, n)
    rows = [[f"{label}/{i:03d}.png", label] for label in ("ill", "well") for i in range(n)]
    with (root / "set" / "table.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["path", "label"], *rows])
    values["source"] |= {"layout": "csv", "csv": "table.csv"}
    return values


def findings(root: Path, rng: np.random.Generator, n: int = 48) -> Config:
    """A table with a column for each of three findings, and the patient."""
    (root / "set" / "images").mkdir(parents=True)
    rows = [[f"{i:03d}.png", f"p{i // 2}", i % 2, i // 2 % 2, int(i % 3 == 0)] for i in range(n)]
    for name, *_ in rows:
        (root / "set" / "images" / str(name)).write_bytes(picture(rng))
    with (root / "set" / "table.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["image", "patient", "nodule", "mass", "edema"], *rows])
    source = {"csv": "table.csv", "images": ["images"], "group": "patient", "split": None, "labels": None}  # fmt: skip
    columns = {"findings": ["nodule", "mass", "edema"], "min_side": 16}
    split = shipped("data", "folder")["split"]
    return config("rfmid64", source | columns, split=split, critical=[], scarce="refuse", rare={"rule": "named", "classes": []})  # fmt: skip


def grades(root: Path, rng: np.random.Generator, n: int = 10) -> Config:
    """Class folders whose classes have an order."""
    values = folder(root, rng, n)
    (root / "set" / "worst").mkdir()
    for i in range(n):
        (root / "set" / "worst" / f"{i:03d}.png").write_bytes(picture(rng))
    values["source"] |= {"classes": ["well", "ill", "worst"]}
    return values | {"task": "ordinal"}


def volumes(root: Path, rng: np.random.Generator, n: int = 8) -> Config:
    """Class folders of NIfTI volumes."""
    for label in ("ill", "well"):
        for i in range(n):
            image, _ = blob((18, 20, 18), int(rng.integers(1 << 30)))
            at = root / "set" / label / f"c{i}.nii.gz"
            write_nifti(at, image, np.diag([2.0, 2.0, 2.0, 1.0]))
    values = config("volume_folder", {"layout": "class_folders", "csv": None, "classes": None, "group_pattern": None})  # fmt: skip
    values["volume"] |= {"shape": (16, 16, 16)}
    return values


def pairs(root: Path, rng: np.random.Generator, n: int = 16) -> Config:
    """Images and masks in two folders."""
    for name in ("images", "masks"):
        (root / "set" / name).mkdir(parents=True)
    for i in range(n):
        (root / "set" / "images" / f"{i:03d}.png").write_bytes(picture(rng))
        (root / "set" / "masks" / f"{i:03d}.png").write_bytes(mask(rng))
    return config("pairs", {"min_side": 16, "labels": {255: "lesion"}, "mask_suffix": "", "images": "images", "masks": "masks", "group_pattern": None})  # fmt: skip


def ham10000(root: Path, rng: np.random.Generator, n: int = 42) -> Config:
    """HAM10000 in the publisher's zips."""
    kinds = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    where = root / "set"
    where.mkdir(parents=True)
    rows = [(f"HAM_{i // 2}", f"ISIC_{i}", kinds[i // 2 % 7], "histo", "40", "male", "back") for i in range(n)]  # fmt: skip
    parts = {f"HAM10000_images_part_{p + 1}": {f"ISIC_{i}.jpg": picture(rng, "JPEG", 64) for i in range(p * n // 2, (p + 1) * n // 2)} for p in (0, 1)}  # fmt: skip
    parts["HAM10000_segmentations_lesion_tschandl"] = {f"ISIC_{i}_segmentation.png": mask(rng, side=64) for i in range(n)}  # fmt: skip
    for name, content in parts.items():
        with zipfile.ZipFile(where / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for file, data in content.items():
                archive.writestr(file, data)
    with (where / "HAM10000_metadata.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"])
        writer.writerows(rows)
    return config("ham10000", {"min_side": 32})


def medmnist(root: Path, rng: np.random.Generator) -> Config:
    """A MedMNIST file; the harness lets any digest pass."""
    where = root / "set"
    where.mkdir(parents=True)
    arrays: dict[str, np.ndarray] = {}
    for split, n in (("train", 24), ("val", 12), ("test", 12)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n) % 2)[:, None].astype(np.uint8)
    np.savez_compressed(where / "breastmnist.npz", **arrays)  # type: ignore[arg-type]
    return config(
        "pneumoniamnist",
        {"dataset": "breastmnist", "size": 28, "download": False},
        rare={"rule": "named", "classes": []},
    )


def nifti(root: Path, rng: np.random.Generator, n: int = 6) -> Config:
    """NIfTI pairs."""
    for i in range(n):
        image, labels = blob((18, 20, 18), int(rng.integers(1 << 30)))
        affine = np.diag([2.0, 2.0, 2.0, 1.0])
        write_nifti(root / "set" / "images" / f"c{i}.nii.gz", image, affine)
        write_nifti(root / "set" / "masks" / f"c{i}.nii.gz", labels, affine)
    return config("nifti", {"labels": {1: "organ", 2: "spot"}, "images": "images", "masks": "masks", "group_pattern": None})  # fmt: skip


def decathlon(root: Path, rng: np.random.Generator) -> Config:
    """A task of the Decathlon."""
    nifti(root, rng)
    (root / "set" / "images").rename(root / "set" / "imagesTr")
    (root / "set" / "masks").rename(root / "set" / "labelsTr")
    described = {
        "labels": {"0": "background", "1": "organ", "2": "spot"},
        "training": [
            {"image": f"./imagesTr/c{i}.nii.gz", "label": f"./labelsTr/c{i}.nii.gz"}
            for i in range(6)
        ],
    }
    (root / "set" / "dataset.json").write_text(json.dumps(described))
    return config("hippocampus", {"labels": None})


def dicom(root: Path, rng: np.random.Generator, n: int = 4) -> Config:
    """Series of DICOM slices with NIfTI masks."""
    for i in range(n):
        image, labels = blob((10, 20, 18), int(rng.integers(1 << 30)))
        write_series(root / "set" / "images" / f"c{i}", image, spacing=(2, 2, 2), patient=f"p{i}")
        affine = np.diag([-2.0, -2.0, 2.0, 1.0])
        affine[:3, 3] = (20, 30, 40)
        write_nifti(
            root / "set" / "masks" / f"c{i}.nii.gz", np.transpose(labels, (2, 1, 0)), affine
        )
    return config("dicom", {"labels": {1: "organ", 2: "spot"}, "images": "images", "masks": "masks"})  # fmt: skip


WORLDS = {
    "folder": folder,
    "csv": table,
    "findings": findings,
    "grades": grades,
    "volumes": volumes,
    "pairs": pairs,
    "ham10000": ham10000,
    "medmnist": medmnist,
    "nifti": nifti,
    "decathlon": decathlon,
    "dicom": dicom,
}
