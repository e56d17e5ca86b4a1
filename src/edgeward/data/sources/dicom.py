"""Cases of DICOM slices: a folder per case, and a mask per case as NIfTI or DICOM-SEG."""

from __future__ import annotations

from pathlib import Path

from edgeward.core.errors import UserError
from edgeward.data.door import BadImage, Door, shown
from edgeward.data.labels import classes_of, label_indices, matched
from edgeward.data.listing import Listing, RawCase, Request
from edgeward.data.paths import folder_of, inside, root_of
from edgeward.data.volume_config import DicomSource
from edgeward.data.volumes import dicom
from edgeward.data.volumes.dicom_seg import read_segmentation
from edgeward.data.volumes.nifti import read_mask, stem

_LABELS = "data.source.labels"


def _masks(root: Path, folder: Path, door: Door) -> tuple[dict[str, Path], list[tuple[str, str]]]:
    found: dict[str, Path] = {}
    lost = []
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        name = stem(path) or (path.stem if path.suffix.lower() == ".dcm" else None)
        if name is None:
            continue
        if name in found:
            raise UserError(f"{folder}: {found[name].name} and {path.name} are one case; keep one.")
        try:
            found[name] = door.file(root, path.relative_to(root))
        except BadImage as error:
            lost.append((f"{folder.name}/{shown(path.name)}", str(error)))
    return found, lost


def _series(
    root: Path, folder: Path, door: Door
) -> tuple[dict[str, list[Path]], list[tuple[str, str]]]:
    """Return the files of each case folder, and the cases that hold what is no file."""
    found, lost = {}, []
    for name in sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")):
        if not (folder / name).is_dir():
            continue
        try:
            if (folder / name).is_symlink():
                inside(root, str((folder / name).relative_to(root)))
            found[name] = dicom.files_of(root, str((folder / name).relative_to(root)), door)
            if name != shown(name):
                raise BadImage("its name is no UTF-8: rename it")
        except BadImage as error:
            lost.append((shown(name), str(error)))
            found.pop(name, None)
    return found, lost


def open_source(request: Request) -> Listing:
    """List the case folders that have a mask."""
    source: DicomSource = request.source
    root = root_of(request)
    images_at = folder_of(root, source.images, "images")
    door = request.door
    images, lost = _series(root, images_at, door)
    masks, lost_masks = _masks(root, folder_of(root, source.masks, "masks"), door)
    if not images and not lost:
        raise UserError(
            f"{images_at} holds no folder; a folder of DICOM slices per case is needed."
        )
    names, index = classes_of(source.labels)
    ids, groups, invalid = matched(images, masks, None)
    invalid += lost + lost_masks
    if source.group == "patient":
        patients = {n: dicom.patient_of(images[n], door) for n in ids}
        invalid += [
            (n, "states no PatientID (data.source.group is 'patient')")
            for n in ids
            if not patients[n]
        ]
        ids = [n for n in ids if patients[n]]
        groups = [patients[n] for n in ids]

    def read(row: int) -> RawCase:
        values, affine = dicom.read_series(images[ids[row]], door)
        shape, mask = values.shape[1:], masks[ids[row]]
        if mask.suffix.lower() == ".dcm":
            numbers = read_segmentation(mask, shape, affine, door)
            return RawCase(values, label_indices(numbers, index, _LABELS), affine)
        return RawCase(values, read_mask(mask, shape, affine, index, _LABELS, door), affine)

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
