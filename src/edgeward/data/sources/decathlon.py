"""A task of the Medical Segmentation Decathlon as published, or folders laid out like one.

Antonelli et al., Nat. Commun. 13:4128 (2022), http://medicaldecathlon.com.
"""

from __future__ import annotations

import json
from pathlib import Path

from edgeward.core.errors import UserError
from edgeward.data.listing import Listing, Request
from edgeward.data.paths import inside, root_of
from edgeward.data.sources.nifti import by_stem, paired
from edgeward.data.volume_config import DecathlonSource
from edgeward.data.volumes.nifti import stem

_FOLDERS = (("imagesTr", "labelsTr"), ("images", "labels"))


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


def open_source(request: Request) -> Listing:
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
        found = paired(
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
            images, masks = by_stem(root / image_folder), by_stem(root / mask_folder)
            return paired(images, masks, source, names, where)
    raise UserError(
        f"{root} holds no dataset.json with a training list and no folders imagesTr and labelsTr: "
        "no task of the Decathlon as published. For a layout of your own use source.kind: nifti."
    )
