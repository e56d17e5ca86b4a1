"""HAM10000 as its publisher offers it: Tschandl et al., Sci. Data 5:180161 (2018)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeward.core.errors import UserError
from edgeward.data.config import LESIONS, Ham10000Source
from edgeward.data.listing import Batch, Listing, Request
from edgeward.data.pixels import Store, decode, decode_mask, decoded_batches
from edgeward.data.tables import read_table

CLASSES = list(LESIONS)
PAGE = "https://doi.org/10.7910/DVN/DBW86T"
PARTS = ("HAM10000_images_part_1", "HAM10000_images_part_2")
# What the metadata say of a patient and an image, besides the diagnosis.
COLUMNS = ("age", "sex", "localization", "dx_type")
METADATA = "HAM10000_metadata.csv"
MASKS = "HAM10000_segmentations_lesion_tschandl"


def _place(root: Path, name: str) -> Path | None:
    """Return the folder or zip called `name`, whichever is there."""
    for path in (root / name, root / f"{name}.zip"):
        if path.exists():
            return path
    return None


def _metadata(root: Path) -> Path | None:
    # The publisher's own download has no suffix; mirrors add .csv.
    for path in (root / METADATA, root / Path(METADATA).stem):
        if path.exists() or path.is_symlink():
            return path
    return None


def open_source(request: Request) -> Listing:
    """List HAM10000 by its metadata; the lesion is the group.

    Raises
    ------
    UserError
        If files are missing (it says which, from where, to where) or the metadata is not the
        published table.
    """
    source: Ham10000Source = request.source
    if request.data_root is None:
        raise UserError(
            f"ham10000 needs a data root: put {', '.join(PARTS)} (zip or folder) and {METADATA} from "
            f"{PAGE} into <data root>/{source.path} and name the root with EDGEWARD_DATA_ROOT or "
            "--config data_root=..."
        )
    root = request.data_root / source.path
    wanted = [*PARTS, *([MASKS] if source.masks == "use" else [])]
    places = {name: _place(root, name) for name in wanted}
    metadata = _metadata(root)
    missing = [f"{name}.zip (or folder {name}/)" for name, place in places.items() if place is None]
    missing += [] if metadata else [METADATA]
    if missing or metadata is None:
        hint = " (or set data.source.masks: ignore)" if any(MASKS in m for m in missing) else ""
        raise UserError(
            f"HAM10000 is not complete: {', '.join(missing)} not found. Download from {PAGE} "
            f"(CC BY-NC 4.0) and put them into {root}{hint}."
        )
    door = request.door
    images = Store([place for name in PARTS if (place := places[name])], door)
    masks = Store([place], door) if source.masks == "use" and (place := places[MASKS]) else None

    ids: list[str] = []
    labels: list[int] = []
    groups: list[str] = []
    known: dict[str, list[str]] = {column: [] for column in COLUMNS}
    invalid: list[tuple[str, str]] = []
    seen: set[str] = set()
    columns, table = read_table(root, metadata.name, door)
    lacking = {"lesion_id", "image_id", "dx"} - set(columns)
    if lacking:
        raise UserError(f"{metadata} has no column {', '.join(sorted(lacking))}: not HAM10000's.")
    for row in table:
        name, dx, lesion = row["image_id"], row["dx"], row["lesion_id"]
        if name in seen:
            raise UserError(f"{metadata} lists image '{name}' twice; get the file again.")
        seen.add(name)
        if dx not in CLASSES:
            invalid.append((name, f"diagnosis '{dx}' is none of {', '.join(CLASSES)}"))
        elif not lesion:
            invalid.append((name, "no lesion_id"))
        elif name not in images:
            invalid.append((name, "in the metadata, but no such image file"))
        elif masks is not None and f"{name}_segmentation" not in masks:
            invalid.append((name, "no mask file"))
        else:
            ids.append(name)
            labels.append(CLASSES.index(dx))
            groups.append(lesion)
            for column, values in known.items():
                value = row.get(column, "")
                values.append("" if value == "unknown" else value)
    invalid += [
        (name, "unlabelled: not in the metadata") for name in images.stems() if name not in seen
    ]
    invalid += images.invalid + (masks.invalid if masks else [])

    def read(row: int) -> tuple[np.ndarray, np.ndarray | None]:
        pixels, stored = decode(
            images.read(ids[row]),
            size=request.image_size,
            channels=3,
            fit=source.fit,
            min_side=source.min_side,
            door=door,
        )
        if masks is None:
            return pixels, None
        content = masks.read(f"{ids[row]}_segmentation")
        mask = decode_mask(
            content, size=request.image_size, fit=source.fit, stored=stored, door=door
        )
        return pixels, mask

    def batches() -> Iterator[Batch]:
        return decoded_batches(len(ids), request.image_size, 3, read, door)

    return Listing(
        classes=CLASSES,
        ids=ids,
        labels=np.array(labels, np.int64),
        groups=groups,
        splits=None,
        channels=3,
        batches=batches,
        source=PAGE,
        licence="CC BY-NC 4.0",
        citation="Tschandl, Rosendahl, Kittler: The HAM10000 dataset, Sci. Data 5:180161 (2018)",
        meanings=LESIONS,
        columns=known,
        foreground=["lesion"] if masks is not None else [],
        invalid=invalid,
    )
