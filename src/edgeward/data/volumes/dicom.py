"""A series of DICOM slices to one volume, with a named reason for each that cannot be used.

Geometry is of the Image Plane Module (DICOM PS3.3, C.7.6.2): position and orientation of every
slice, never the slice number or the file name. An enhanced multi-frame object counts as the series
of its frames.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from edgeward.data.dicom_file import PIXELS, kind_of, numbers, parse, pixels_of, rescaling, whole
from edgeward.data.door import BadImage, Door
from edgeward.data.volumes.grid import check_affine

log = logging.getLogger(__name__)

_OTHER = frozenset(
    {".txt", ".json", ".csv", ".tsv", ".xml", ".md", ".pdf", ".html", ".png", ".jpg"}
)
_SAME_MM = 1e-2  # positions and spacings that differ by less are the same
_SAME_COSINE = 1e-3
_GAP = 0.02  # of the slice distance, by which gaps may differ
_BESIDE = 0.1  # of the pixel spacing, by which a slice may lie beside the others
_ALIKE = ("PatientID", "Modality", "FrameOfReferenceUID", "PhotometricInterpretation")


@dataclass(frozen=True)
class Plane:
    """One slice: its pixels and where they lie (mm, LPS+ as in DICOM)."""

    file: str
    pixels: np.ndarray
    position: np.ndarray
    rows: np.ndarray  # direction in which the column index grows
    columns: np.ndarray  # direction in which the row index grows
    spacing: tuple[float, float]  # between rows, between columns
    said: dict[str, str] = field(default_factory=dict)  # what all slices of a series share


def files_of(root: Path, case: str, door: Door) -> list[Path]:
    """List the files of a case, a folder below `root`, that may be DICOM (they often have no suffix), sorted.

    Raises
    ------
    BadImage
        If there is among them what is no file.
    """
    names, lost = door.files(root / case, top=root)
    if lost:
        raise BadImage(f"{lost[0][0]}: {lost[0][1]}")
    paths = [root / case / name for name in names]
    return [p for p in paths if not _aside(p)]


def _aside(path: Path) -> bool:
    hidden = path.name.startswith(".") or path.name.upper() == "DICOMDIR"
    return hidden or path.suffix.lower() in _OTHER


def load(path: Path, door: Door, *, pixels: bool = True) -> Dataset:
    """Read a DICOM file; BadImage, with the file's name, if it is none."""
    with _named(path.name):
        return parse(door.read(path), door, pixels=pixels)


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except BadImage as error:
        raise BadImage(f"{name}: {error}") from error


def patient_of(files: list[Path], door: Door) -> str:
    """Return the PatientID of the first file of a case that states one, or ""."""
    for path in files:
        try:
            return str(load(path, door, pixels=False).get("PatientID") or "")
        except BadImage:
            continue
    return ""


def _rescaled(values: np.ndarray, *sources: Dataset | None) -> np.ndarray:
    """Return pixels in the modality's units, float32."""
    slope, intercept = rescaling(*sources)
    values = values.astype(np.float32)
    return (
        values
        if (slope, intercept) == (1, 0)
        else values * np.float32(slope) + np.float32(intercept)
    )


def functional(group: Dataset | None, key: str) -> Dataset | None:
    sequence = None if group is None else group.get(key)
    return sequence[0] if sequence else None


def planes(name: str, data: Dataset, door: Door) -> Iterator[Plane]:
    """Yield the slices of an object: one, or one per frame; `name` is its file's."""
    with _named(name):
        values = pixels_of(data, door)
        if whole(data, "SamplesPerPixel", 1) != 1:
            raise BadImage(f"a colour image ({data.get('PhotometricInterpretation')}), no volume")
        shared_by_all = {key: str(data.get(key) or "") for key in _ALIKE}
        if "PerFrameFunctionalGroupsSequence" not in data:
            if values.ndim != 2:
                raise BadImage(f"{len(values)} frames without positions, no volume")
            yield _plane(name, _rescaled(values, data), data, data, data, shared_by_all)
            return
        shared = functional(data, "SharedFunctionalGroupsSequence")
        frames = data.PerFrameFunctionalGroupsSequence
        values = values[None] if values.ndim == 2 else values
        if len(frames) != len(values):
            raise BadImage(f"{len(values)} frames, {len(frames)} of them described")
        for number, (frame, pixels) in enumerate(zip(frames, values, strict=True), start=1):

            def of(key: str, frame: Dataset = frame) -> Dataset | None:
                return functional(frame, key) or functional(shared, key)

            yield _plane(
                f"{name} frame {number}",
                _rescaled(pixels, of("PixelValueTransformationSequence"), data),
                of("PlanePositionSequence"),
                of("PlaneOrientationSequence"),
                of("PixelMeasuresSequence"),
                shared_by_all,
            )


def _plane(
    name: str,
    pixels: np.ndarray,
    position: Dataset | None,
    orientation: Dataset | None,
    measures: Dataset | None,
    said: dict[str, str],
) -> Plane:
    cosines = numbers(orientation, "ImageOrientationPatient", 6)
    rows, columns = cosines[:3], cosines[3:]
    off = max(abs(rows @ rows - 1), abs(columns @ columns - 1), abs(rows @ columns))
    if off > 1e-2:
        raise BadImage(
            f"ImageOrientationPatient {cosines.tolist()} is no pair of unit vectors at right angles"
        )
    spacing = numbers(measures, "PixelSpacing", 2)
    if spacing.min() <= 0:
        raise BadImage(f"PixelSpacing is {spacing.tolist()} mm")
    return Plane(
        file=name,
        pixels=pixels,
        position=numbers(position, "ImagePositionPatient", 3),
        rows=rows,
        columns=columns,
        spacing=(float(spacing[0]), float(spacing[1])),
        said=said,
    )


def read_series(files: list[Path], door: Door) -> tuple[np.ndarray, np.ndarray]:
    """Read the one image series among the files of a case.

    Objects that are no image (structure sets, plans, reports) may lie beside the slices and are
    left aside; a folder of nothing else has no volume.

    Returns
    -------
    values : float32 (1, i, j, k), in the modality's units (CT: Hounsfield).
    affine : float64 (4, 4), mm, RAS+.

    Raises
    ------
    BadImage
        With the files concerned: no image, a file that is cut off or cannot be decoded, several
        series, sizes, spacings, orientations, patients or photometric interpretations, two slices in one place, a slice missing or
        beside the others, more voxels than `data.limits`.
    """
    slices: list[Plane] = []
    series: dict[str, str] = {}
    aside: list[str] = []
    for path in files:
        data = load(path, door)
        if not any(key in data for key in PIXELS):
            aside.append(f"{path.name}: {kind_of(data)}, holds no pixel data")
            continue
        series.setdefault(str(data.get("SeriesInstanceUID", "")), path.name)
        if len(series) > 1:
            raise BadImage(
                f"holds several series (among them {' and '.join(series.values())}): one volume per "
                "case folder"
            )
        slices += planes(path.name, data, door)
        door.check_voxels(sum(s.pixels.size for s in slices))
    if not slices:
        raise BadImage(f"holds no image ({'; '.join(aside[:5]) or 'no DICOM file'})")
    for reason in aside:
        log.warning("%s left aside, %s", files[0].parent.name, reason)
    _check_alike(slices)
    return _stacked(slices)


def _check_alike(slices: list[Plane]) -> None:
    first = slices[0]
    for other in slices[1:]:
        both = f"({first.file} and {other.file})"
        if other.pixels.shape != first.pixels.shape:
            raise BadImage(f"several sizes, {first.pixels.shape} and {other.pixels.shape} {both}")
        if not np.allclose(other.spacing, first.spacing, atol=_SAME_MM * min(first.spacing)):
            raise BadImage(
                f"several spacings, {first.spacing} and {other.spacing} mm between pixels {both}"
            )
        apart = max(
            np.abs(other.rows - first.rows).max(), np.abs(other.columns - first.columns).max()
        )
        if apart > _SAME_COSINE:
            raise BadImage(f"several orientations {both}")
        for key, value in other.said.items():
            if value != first.said.get(key):
                raise BadImage(f"several {key}: '{first.said.get(key)}' and '{value}' {both}")


def _stacked(slices: list[Plane]) -> tuple[np.ndarray, np.ndarray]:
    """Order the slices along their normal and stack them."""
    first = slices[0]
    normal = np.cross(first.rows, first.columns)
    slices = sorted(slices, key=lambda s: float(s.position @ normal))
    if len(slices) < 2:
        raise BadImage(f"holds one slice only ({first.file}), no volume")
    places = np.array([s.position for s in slices])
    gaps = np.diff(places @ normal)
    usual = float(np.median(gaps))
    for at in np.flatnonzero(gaps < _SAME_MM):
        raise BadImage(f"two slices in one place ({slices[at].file} and {slices[at + 1].file})")
    for at in np.flatnonzero(np.abs(gaps - usual) > max(_GAP * usual, _SAME_MM)):
        what = "a slice is missing" if gaps[at] > 1.5 * usual else "several slice distances"
        raise BadImage(
            f"{what}: {gaps[at]:.4g} mm between {slices[at].file} and {slices[at + 1].file}, "
            f"{usual:.4g} mm between most"
        )
    step = np.median(np.diff(places, axis=0), axis=0)
    line = places[0] + np.outer(np.arange(len(places)), step)
    aside = np.linalg.norm(places - line - np.median(places - line, axis=0), axis=1)
    if aside.max() > max(_BESIDE * min(first.spacing), _GAP * usual, _SAME_MM):
        worst = int(aside.argmax())
        raise BadImage(
            f"{slices[worst].file} lies {aside[worst]:.4g} mm beside the line of the other slices"
        )
    affine = np.eye(4)
    affine[:3, 0] = slices[0].rows * first.spacing[1]
    affine[:3, 1] = slices[0].columns * first.spacing[0]
    affine[:3, 2] = (places[-1] - places[0]) / (len(slices) - 1)
    affine[:3, 3] = places[0]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # LPS+ to RAS+
    check_affine(affine)
    stack = np.stack([s.pixels for s in slices])  # (k, row, column)
    return np.swapaxes(stack, 0, 2)[None], affine
