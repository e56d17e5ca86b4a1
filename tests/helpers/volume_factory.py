"""Small volumes as files: NIfTI pairs and DICOM series with a geometry of the test's choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    SegmentationStorage,
)
from shipped import shipped

from edgeward.data.config import DataConfig

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def config(name: str, /, **changes: Any) -> DataConfig:
    """A shipped data set with values replaced; a dict changes single keys of a section."""
    values = shipped("data", name)
    for key, value in changes.items():
        whole = key not in {"source", "volume", "calibration", "audit"}
        values[key] = value if whole or value is None else values[key] | value
    return DataConfig(**values)


def write_nifti(path: Path, values: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def blob(shape: tuple[int, int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright box, uint8 mask: 1 the box, 2 a corner of it."""
    rng = np.random.default_rng(seed)
    image = rng.normal(100, 10, shape)
    mask = np.zeros(shape, np.uint8)
    box = tuple(slice(n // 4, n // 4 + n // 3) for n in shape)
    image[box] += 80
    mask[box] = 1
    mask[tuple(slice(n // 4, n // 4 + 2) for n in shape)] = 2
    return image.astype(np.int16), mask


def _file(path: Path, kind: str, patient: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(kind)
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[str(path)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
    data.PatientID, data.StudyInstanceUID = patient, "1.2.3"
    data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.3.4", "1.2.3.5"
    return data


def write_series(
    folder: Path,
    stack: np.ndarray,
    *,
    spacing: tuple[float, float, float] = (3.0, 1.0, 1.0),
    orientation: tuple[float, ...] = AXIAL,
    origin: tuple[float, float, float] = (-20.0, -30.0, 40.0),
    patient: str = "p",
    **changes: Any,
) -> list[Path]:
    """Write (slices, rows, columns) of int16 as CT with slope 2 and intercept -1000; spacing z, y, x.

    File names do not follow the order of the slices. `changes` are set on the middle slice only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(rows, columns)
    paths = []
    for k, pixels in enumerate(stack):
        path = folder / f"IM{(k * 7) % 101:03d}"
        data = _file(path, CTImageStorage, patient)
        data.Modality, data.InstanceNumber = "CT", 1
        data.Rows, data.Columns = pixels.shape
        data.ImagePositionPatient = [float(v) for v in np.array(origin) + k * spacing[0] * normal]
        data.ImageOrientationPatient = list(orientation)
        data.PixelSpacing = [spacing[1], spacing[2]]
        data.RescaleSlope, data.RescaleIntercept = 2, -1000
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.PixelData = pixels.astype("<i2").tobytes()
        if k == len(stack) // 2:
            for key, value in changes.items():
                setattr(data, key, value)
        data.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def write_segmentation(path: Path, stack: np.ndarray, series: list[Path]) -> Path:
    """Write label values (slices, rows, columns) as a binary DICOM-SEG on the slices of a series."""
    data = _file(path, SegmentationStorage, "p")
    data.Modality, data.SegmentationType = "SEG", "BINARY"
    first = pydicom.dcmread(series[0])
    frames, groups = [], []
    for value in np.unique(stack[stack > 0]):
        for pixels, slice_path in zip(stack, series, strict=True):
            if not (pixels == value).any():
                continue
            position, segment, frame = Dataset(), Dataset(), Dataset()
            position.ImagePositionPatient = pydicom.dcmread(slice_path).ImagePositionPatient
            segment.ReferencedSegmentNumber = int(value)
            frame.PlanePositionSequence = [position]
            frame.SegmentIdentificationSequence = [segment]
            groups.append(frame)
            frames.append((pixels == value).reshape(-1))
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    measures.PixelSpacing = first.PixelSpacing
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = groups
    data.NumberOfFrames, data.SamplesPerPixel = len(frames), 1
    data.Rows, data.Columns = stack.shape[1:]
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 1, 1, 0, 0
    content = np.packbits(np.concatenate(frames), bitorder="little").tobytes()
    data.PixelData = content + b"\0" * (len(content) % 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def write_enhanced(path: Path, series: list[Path]) -> Path:
    """Write a series as one enhanced multi-frame object; rescaling is stated per frame."""
    slices = [pydicom.dcmread(p) for p in series]
    data, groups = _file(path, EnhancedCTImageStorage, "p"), []
    for single in slices:
        frame, position, values = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = single.ImagePositionPatient
        values.RescaleSlope, values.RescaleIntercept = single.RescaleSlope, single.RescaleIntercept
        frame.PlanePositionSequence = [position]
        frame.PixelValueTransformationSequence = [values]
        groups.append(frame)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = slices[0].ImageOrientationPatient
    measures.PixelSpacing = slices[0].PixelSpacing
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = groups
    data.NumberOfFrames, data.SamplesPerPixel = len(slices), 1
    data.Rows, data.Columns = slices[0].Rows, slices[0].Columns
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.PixelData = b"".join(s.PixelData for s in slices)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path
