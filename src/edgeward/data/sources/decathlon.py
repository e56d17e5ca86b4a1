"""A task of the Medical Segmentation Decathlon as published, or folders laid out like one.

Antonelli et al., Nat. Commun. 13:4128 (2022), http://medicaldecathlon.com.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeward.core.errors import UserError
from edgeward.data.door import BadImage, Door, said, shown
from edgeward.data.listing import Listing, Request
from edgeward.data.paths import root_of
from edgeward.data.sources.nifti import by_stem, paired
from edgeward.data.volume_config import DecathlonSource
from edgeward.data.volumes.nifti import stem

_FOLDERS = (("imagesTr", "labelsTr"), ("images", "labels"))


class _Pair(BaseModel):
    """An entry of the training list; keys that nobody reads are not looked at."""

    image: str
    label: str


class _Described(BaseModel):
    """What is read of dataset.json; Decathlon writes {"1": "liver"}, nnU-Net v2 {"liver": 1}."""

    model_config = ConfigDict(strict=True)

    labels: dict[str, str | int] = Field(min_length=1)
    training: list[Any] | None = None


def _dataset(path: Path, door: Door) -> tuple[dict[int, str], dict[str, tuple[str, str]] | None]:
    """Read dataset.json: the foreground labels, and the training pairs if it lists them."""
    content = door.json(path.parent, path.name, "dataset.json of the Decathlon")
    try:
        described = _Described.model_validate(content)
        labels: dict[int, str] = {}
        for key, value in described.labels.items():
            number, name = (value, key) if isinstance(value, int) else (int(key), value)
            if not 0 <= number <= 255 or number in labels or not name.strip():
                raise ValueError(
                    f"labels: '{key}: {value}' is no name of a value from 0 to 255, each once"
                )
            labels[number] = name
        labels.pop(0, None)
        if not labels:
            raise ValueError("labels: no foreground")
        pairs = described.training
        if pairs is None or not all(isinstance(p, dict) for p in pairs):
            return labels, None
        listed = {}
        for pair in (_Pair.model_validate(p, strict=True) for p in pairs):
            case = stem(Path(pair.image))
            if case is None or case in listed:
                raise ValueError(
                    f"training: image '{pair.image[:100]}' is no NIfTI file or repeats"
                )
            listed[case] = (pair.image, pair.label)
    except ValueError as error:
        raise UserError(
            f"{path} is no dataset.json of the Decathlon ({_first(error)}); get it "
            "again, or remove it and name the labels in data.source.labels (config/data/)."
        ) from error
    return labels, listed


def _first(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return said(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}"


def _listed(
    root: Path, listed: Mapping[str, tuple[str, str]], door: Door
) -> tuple[dict[str, Path], dict[str, Path], list[tuple[str, str]]]:
    """Return images and masks of the listed cases that are there, and reasons for the others."""
    images, masks, lost = {}, {}, []
    for name, (image, mask) in listed.items():
        what, file = "", image
        try:
            found = door.file(root, file)
            what, file = "image without mask: ", mask
            masks[name] = door.file(root, file)
            images[name] = found
        except BadImage as error:
            lost.append((shown(name[:100]), f"{what}{shown(file[:100])}: {error}"))
    return images, masks, lost


def open_source(request: Request) -> Listing:
    """List a task's labelled cases: those of dataset.json, or of its folders without one."""
    source: DecathlonSource = request.source
    root = root_of(request)
    described = root / "dataset.json"
    door = request.door
    there = described.exists() or described.is_symlink()
    labels, listed = _dataset(described, door) if there else (None, None)
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
        images, masks, lost = _listed(root, listed, door)
        found = paired(images, masks, source, names, where, door)
        found.invalid.extend(lost)
        return found
    for image_folder, mask_folder in _FOLDERS:
        if (root / image_folder).is_dir() and (root / mask_folder).is_dir():
            images, lost = by_stem(root, root / image_folder, door)
            masks, lost_masks = by_stem(root, root / mask_folder, door)
            found = paired(images, masks, source, names, where, door)
            found.invalid.extend(lost + lost_masks)
            return found
    raise UserError(
        f"{root} holds no dataset.json with a training list and no folders imagesTr and labelsTr: "
        "no task of the Decathlon as published. For a layout of your own use source.kind: nifti."
    )
