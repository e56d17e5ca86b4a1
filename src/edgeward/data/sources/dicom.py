"""Cases of DICOM slices: a folder per case, and a mask per case as NIfTI or DICOM-SEG."""

from __future__ import annotations

from pathlib import Path

from edgeward.core.errors import UserError
from edgeward.data.labels import classes_of, label_indices, matched
from edgeward.data.listing import Listing, RawCase, Request
from edgeward.data.paths import folder_of, inside, root_of
from edgeward.data.volume_config import DicomSource
from edgeward.data.volumes import dicom
from edgeward.data.volumes.dicom_seg import read_segmentation
from edgeward.data.volumes.nifti import read_mask, stem

_LABELS = "data.source.labels"


def _masks(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")):
        name = stem(path) or (path.stem if path.suffix.lower() == ".dcm" else None)
        if name is None:
            continue
        inside(folder, path.name)
        if name in found:
            raise UserError(f"{folder}: {found[name].name} and {path.name} are one case; keep one.")
        found[name] = path
    return found


def open_source(request: Request) -> Listing:
    """List the case folders that have a mask."""
    source: DicomSource = request.source
    root = root_of(request)
    images_at = folder_of(root, source.images, "images")
    images = {
        p.name: p for p in sorted(images_at.iterdir()) if p.is_dir() and not p.name.startswith(".")
    }
    for case in images.values():
        for path in dicom.files_of(case):
            inside(images_at, path.relative_to(images_at).as_posix())
    masks = _masks(folder_of(root, source.masks, "masks"))
    if not images:
        raise UserError(
            f"{images_at} holds no folder; a folder of DICOM slices per case is needed."
        )
    names, index = classes_of(source.labels)
    ids, groups, invalid = matched(images, masks, None)
    if source.group == "patient":
        patients = {n: dicom.patient_of(images[n]) for n in ids}
        invalid += [
            (n, "states no PatientID (data.source.group is 'patient')")
            for n in ids
            if not patients[n]
        ]
        ids = [n for n in ids if patients[n]]
        groups = [patients[n] for n in ids]

    def read(row: int) -> RawCase:
        values, affine = dicom.read_series(images[ids[row]])
        shape, mask = values.shape[1:], masks[ids[row]]
        if mask.suffix.lower() == ".dcm":
            numbers = read_segmentation(mask, shape, affine)
            return RawCase(values, label_indices(numbers, index, _LABELS), affine)
        return RawCase(values, read_mask(mask, shape, affine, index, _LABELS), affine)

    return Listing(
        ids=ids,
        groups=groups,
        foreground=names,
        splits=None,
        read=read,
        source=source.path,
        licence=source.licence,
        citation=source.citation,
        invalid=invalid,
        notes={"published_groups": source.group == "patient"},
    )
