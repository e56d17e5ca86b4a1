"""A series of DICOM slices to one volume, with a named reason for each that cannot be used.

Geometry is of the Image Plane Module (DICOM PS3.3, C.7.6.2): position and orientation of every
slice, never the slice number or the file name. An enhanced multi-frame object counts as the series
of its frames.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from edgeward.data.listing import BadImage
from edgeward.data.volumes.grid import check_affine

log = logging.getLogger(__name__)

_OTHER = frozenset(
    {".txt", ".json", ".csv", ".tsv", ".xml", ".md", ".pdf", ".html", ".png", ".jpg"}
)
_SAME_MM = 1e-2  # positions and spacings that differ by less are the same
_SAME_COSINE = 1e-3
_GAP = 0.02  # of the slice distance, by which gaps may differ


@dataclass(frozen=True)
class Plane:
    """One slice: its pixels and where they lie (mm, LPS+ as in DICOM)."""

    file: str
    pixels: np.ndarray
    position: np.ndarray
    rows: np.ndarray  # direction in which the column index grows
    columns: np.ndarray  # direction in which the row index grows
    spacing: tuple[float, float]  # between rows, between columns


def files_of(folder: Path) -> list[Path]:
    """List the files of a case that may be DICOM (they often have no suffix), sorted."""
    return sorted(
        p
        for p in folder.rglob("*")
        if p.is_file()
        and not p.name.startswith(".")
        and p.name.upper() != "DICOMDIR"
        and p.suffix.lower() not in _OTHER
    )


def load(path: Path, *, pixels: bool = True) -> Dataset:
    """Read a DICOM file; BadImage, with the file's name, if it is none."""
    try:
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except InvalidDicomError as error:
        raise BadImage(f"{path.name}: is no DICOM file") from error
    except (OSError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise BadImage(f"{path.name}: cannot be read as DICOM ({error})") from error


def patient_of(folder: Path) -> str:
    """Return the PatientID of the first file of a case that states one, or ""."""
    for path in files_of(folder):
        try:
            return str(load(path, pixels=False).get("PatientID") or "")
        except BadImage:
            continue
    return ""


def pixel_values(data: Dataset, name: str) -> np.ndarray:
    """Return the pixels of an object as float32, rescaled to the modality's units.

    Raises
    ------
    BadImage
        If they are absent, cut off, or in a coding that no installed decoder reads.
    """
    if not any(key in data for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise BadImage(f"{name}: {kind_of(data)}, holds no pixel data")
    try:
        values = data.pixel_array
    except Exception as error:  # decoders raise what they like
        raise BadImage(f"{name}: its pixels cannot be decoded ({error})") from error
    return values.astype(np.float32)


def kind_of(data: Dataset) -> str:
    """Return the name of an object's storage class, e.g. "RT Plan Storage"."""
    uid = data.get("SOPClassUID")
    return str(uid.name) if uid is not None else "object of unknown class"


def _rescaled(values: np.ndarray, *sources: Dataset | None) -> np.ndarray:
    """Apply rescale slope and intercept of the first data set that has them."""
    for source in sources:
        if source is not None and "RescaleSlope" in source:
            slope, intercept = float(source.RescaleSlope), float(source.get("RescaleIntercept", 0))
            return values * np.float32(slope) + np.float32(intercept)
    return values


def _vector(data: Dataset | None, key: str, n: int, name: str) -> np.ndarray:
    value = None if data is None else data.get(key)
    if value is None or len(value) != n:
        raise BadImage(f"{name}: states no {key}, so it has no place in a volume")
    return np.array([float(v) for v in value])


def functional(group: Dataset | None, key: str) -> Dataset | None:
    sequence = None if group is None else group.get(key)
    return sequence[0] if sequence else None


def planes(path: Path, data: Dataset) -> Iterator[Plane]:
    """Yield the slices of an object: one, or one per frame."""
    name = path.name
    values = pixel_values(data, name)
    if int(data.get("SamplesPerPixel", 1)) != 1:
        raise BadImage(f"{name}: a colour image ({data.PhotometricInterpretation}), no volume")
    if "PerFrameFunctionalGroupsSequence" not in data:
        if values.ndim != 2:
            raise BadImage(f"{name}: {len(values)} frames without positions, no volume")
        yield _plane(name, _rescaled(values, data), data, data, data)
        return
    shared = functional(data, "SharedFunctionalGroupsSequence")
    frames = data.PerFrameFunctionalGroupsSequence
    values = values[None] if values.ndim == 2 else values
    if len(frames) != len(values):
        raise BadImage(f"{name}: {len(values)} frames, {len(frames)} of them described")
    for number, (frame, pixels) in enumerate(zip(frames, values, strict=True), start=1):

        def of(key: str, frame: Dataset = frame) -> Dataset | None:
            return functional(frame, key) or functional(shared, key)

        yield _plane(
            f"{name} frame {number}",
            _rescaled(pixels, of("PixelValueTransformationSequence"), data),
            of("PlanePositionSequence"),
            of("PlaneOrientationSequence"),
            of("PixelMeasuresSequence"),
        )


def _plane(
    name: str,
    pixels: np.ndarray,
    position: Dataset | None,
    orientation: Dataset | None,
    measures: Dataset | None,
) -> Plane:
    cosines = _vector(orientation, "ImageOrientationPatient", 6, name)
    spacing = _vector(measures, "PixelSpacing", 2, name)
    return Plane(
        file=name,
        pixels=pixels,
        position=_vector(position, "ImagePositionPatient", 3, name),
        rows=cosines[:3],
        columns=cosines[3:],
        spacing=(float(spacing[0]), float(spacing[1])),
    )


def read_series(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the one image series in a folder.

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
        series, sizes, spacings or orientations, two slices in one place, a slice missing.
    """
    slices: list[Plane] = []
    series: dict[str, str] = {}
    aside: list[str] = []
    for path in files_of(folder):
        data = load(path)
        if not any(key in data for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            aside.append(f"{path.name}: {kind_of(data)}, holds no pixel data")
            continue
        series.setdefault(str(data.get("SeriesInstanceUID", "")), path.name)
        if len(series) > 1:
            raise BadImage(
                f"holds several series (among them {' and '.join(series.values())}): one volume per "
                "case folder"
            )
        slices += planes(path, data)
    if not slices:
        raise BadImage(f"holds no image ({'; '.join(aside[:5]) or 'no DICOM file'})")
    for reason in aside:
        log.warning("%s left aside, %s", folder.name, reason)
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
    affine = np.eye(4)
    affine[:3, 0] = slices[0].rows * first.spacing[1]
    affine[:3, 1] = slices[0].columns * first.spacing[0]
    affine[:3, 2] = (places[-1] - places[0]) / (len(slices) - 1)
    affine[:3, 3] = places[0]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # LPS+ to RAS+
    check_affine(affine)
    stack = np.stack([s.pixels for s in slices])  # (k, row, column)
    return np.swapaxes(stack, 0, 2)[None], affine
