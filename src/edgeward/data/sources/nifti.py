"""NIfTI pairs: a task of the Medical Segmentation Decathlon, or two folders of your own.

Decathlon: Antonelli et al., Nat. Commun. 13:4128 (2022), http://medicaldecathlon.com.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from edgeward.core.errors import UserError
from edgeward.data.labels import classes_of, grouped
from edgeward.data.listing import Request
from edgeward.data.places import folder_of, inside, root_of
from edgeward.data.volumes.config import DecathlonSource, NiftiSource
from edgeward.data.volumes.listing import RawCase, VolumeListing
from edgeward.data.volumes.nifti import read_pair, stem

_FOLDERS = (("imagesTr", "labelsTr"), ("images", "labels"))


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = stem(path)
        if name is None or path.name.startswith("."):
            continue
        inside(folder, path.name)
        if name in found:
            raise UserError(f"{folder}: {found[name].name} and {path.name} are one case; keep one.")
        found[name] = path
    return found


def _listing(
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    source: DecathlonSource | NiftiSource,
    labels: Mapping[int, str],
    where: str,
) -> VolumeListing:
    names, index = classes_of(labels)
    invalid = [(n, "image without mask") for n in images if n not in masks]
    invalid += [(n, "mask without image") for n in masks if n not in images]
    ids = sorted(set(images) & set(masks))
    pattern = source.group_pattern if isinstance(source, NiftiSource) else None
    groups, lost = grouped(ids, pattern)
    kept = [i for i, group in enumerate(groups) if group]
    ids, groups = [ids[i] for i in kept], [groups[i] for i in kept]

    def read(row: int) -> RawCase:
        return read_pair(images[ids[row]], masks[ids[row]], index, where)

    return VolumeListing(
        ids=ids,
        groups=groups,
        foreground=names,
        splits=None,
        read=read,
        source=source.path,
        licence=source.licence,
        citation=source.citation,
        invalid=invalid + lost,
        notes={"published_groups": pattern is not None},
    )


def open_nifti(request: Request) -> VolumeListing:
    """List pairs of files with the same name in two folders."""
    source: NiftiSource = request.source
    root = root_of(request)
    images = _by_stem(folder_of(root, source.images, "images"))
    masks = _by_stem(folder_of(root, source.masks, "masks"))
    if not images:
        raise UserError(f"{root / source.images} holds no .nii or .nii.gz file.")
    return _listing(images, masks, source, source.labels, "data.source.labels")


def _dataset(path: Path) -> tuple[dict[int, str], dict[str, tuple[str, str]] | None]:
    """Read dataset.json: the foreground labels, and the training pairs if it lists them.

    The labels are {"1": "liver"} as in the Decathlon, or {"liver": 1} as in nnU-Net v2.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        labels = {}
        for key, value in content["labels"].items():
            number, name = (value, key) if isinstance(value, int) else (int(key), value)
            if number != 0:
                labels[int(number)] = str(name)
        if not labels:
            raise ValueError("labels: no foreground")
        pairs = content.get("training")
        if not isinstance(pairs, list) or not all(isinstance(p, dict) for p in pairs):
            return labels, None
        listed = {}
        for pair in pairs:
            name = stem(Path(pair["image"]))
            if name is None or name in listed:
                raise ValueError(f"training: image '{pair['image']}' is no NIfTI file or repeats")
            listed[name] = (str(pair["image"]), str(pair["label"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no dataset.json of the Decathlon ({type(error).__name__}: {error}); get it "
            "again, or remove it and name the labels in data.source.labels (config/data/)."
        ) from error
    return labels, listed


def open_decathlon(request: Request) -> VolumeListing:
    """List a task's labelled cases: those of dataset.json, or of its folders without one."""
    source: DecathlonSource = request.source
    root = root_of(request)
    described = root / "dataset.json"
    labels, listed = _dataset(described) if described.is_file() else (None, None)
    if labels is None and source.labels is None:
        raise UserError(
            f"{described} is missing, and data.source.labels (config/data/) is null: name the labels "
            "there, e.g. {1: anterior, 2: posterior}."
        )
    if labels is not None and source.labels is not None and set(labels) != set(source.labels):
        raise UserError(
            f"data.source.labels (config/data/) names {sorted(source.labels)}, {described} "
            f"{sorted(labels)}; set it to null to take the names from there."
        )
    names = source.labels or labels
    assert names is not None
    where = str(described.name) if labels is not None else "data.source.labels"
    if listed is not None:
        images = {n: inside(root, image) for n, (image, _) in listed.items()}
        masks = {n: inside(root, mask) for n, (_, mask) in listed.items()}
        lost = [(n, f"no such file: {images[n].name}") for n in images if not images[n].is_file()]
        lost += [
            (n, f"image without mask: {masks[n].name} is missing")
            for n in images
            if images[n].is_file() and not masks[n].is_file()
        ]
        gone = {n for n, _ in lost}
        found = _listing(
            {n: p for n, p in images.items() if n not in gone},
            {n: p for n, p in masks.items() if n not in gone},
            source,
            names,
            where,
        )
        found.invalid.extend(lost)
        return found
    for image_folder, mask_folder in _FOLDERS:
        if (root / image_folder).is_dir() and (root / mask_folder).is_dir():
            images, masks = _by_stem(root / image_folder), _by_stem(root / mask_folder)
            return _listing(images, masks, source, names, where)
    raise UserError(
        f"{root} holds no dataset.json with a training list and no folders imagesTr and labelsTr: "
        "no task of the Decathlon as published. For a layout of your own use source.kind: nifti."
    )
