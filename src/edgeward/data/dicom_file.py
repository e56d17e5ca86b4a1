"""One DICOM object: parsed and decoded within `data.limits`, its numbers checked."""

from __future__ import annotations

import io
import math
import zlib
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGTransferSyntaxes,
)

from edgeward.data.door import BadImage, Door, said

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_PREAMBLE = 132  # bytes before the file meta information, whose first element has 12 and states the length of the rest
_GROUP_LENGTH = 12


def parse(content: bytes, door: Door, *, pixels: bool = True) -> Dataset:
    """Read a DICOM object; BadImage if it is none."""
    try:
        _check_deflated(content, door)
        return pydicom.dcmread(io.BytesIO(content), stop_before_pixels=not pixels)
    except BadImage:
        raise
    except InvalidDicomError as error:
        raise BadImage("is no DICOM file") from error
    except Exception as error:  # a damaged file makes the parser raise what it likes
        raise BadImage(f"cannot be read as DICOM ({said(error)})") from error


def _check_deflated(content: bytes, door: Door) -> None:
    """Refuse a deflated object that would unpack to too much: the parser unpacks it whole."""
    first = content[_PREAMBLE : _PREAMBLE + _GROUP_LENGTH]
    stated = first.startswith(b"\x02\0\0\0UL")
    start = _PREAMBLE + _GROUP_LENGTH + int.from_bytes(first[8:], "little") if stated else None
    if DeflatedExplicitVRLittleEndian.encode() not in content[:start]:
        return
    if start is None:
        raise BadImage("is deflated, and its file meta information states no length")
    stream, left, n = zlib.decompressobj(-zlib.MAX_WBITS), content[start:], 0
    while left and not stream.eof:
        n += len(stream.decompress(left, 1 << 24))
        door.check_bytes(n, "a content")
        left = stream.unconsumed_tail


def kind_of(data: Dataset) -> str:
    """Return the name of an object's storage class, e.g. "RT Plan Storage"."""
    uid = data.get("SOPClassUID")
    return str(uid.name) if uid is not None else "object of unknown class"


def numbers(data: Dataset | None, key: str, n: int) -> np.ndarray:
    """Return a value of n finite numbers, float64 (n,).

    Raises
    ------
    BadImage
        If there is none, or it has another length, or is not finite.
    """
    try:
        value = None if data is None else data.get(key)
    except Exception as error:  # values are converted when they are asked for
        raise BadImage(f"{key} cannot be read ({said(error)})") from error
    if value is None or value == "":
        raise BadImage(f"states no {key}")
    values = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
    try:
        found = [float(v) for v in values]
    except (TypeError, ValueError):
        found = []
    if len(found) != n or not all(map(math.isfinite, found)):
        shown = "\\".join(map(str, values))[:80]
        raise BadImage(f"{key} is '{shown}': {n} finite {'number' if n == 1 else 'numbers'} needed")
    return np.array(found)


def whole(data: Dataset, key: str, default: int | None = None) -> int:
    """Return a value that counts something: an int above 0."""
    if default is not None and not data.get(key):
        return default
    value = int(numbers(data, key, 1)[0])
    if value < 1:
        raise BadImage(f"{key} is {value}")
    return value


def rescaling(*sources: Dataset | None) -> tuple[float, float]:
    """Return rescale slope and intercept of the first data set that has them; 1 and 0 if none has."""
    for source in sources:
        if source is not None and "RescaleSlope" in source:
            slope = float(numbers(source, "RescaleSlope", 1)[0])
            if slope == 0:
                raise BadImage("RescaleSlope is 0")
            given = "RescaleIntercept" in source
            return slope, float(numbers(source, "RescaleIntercept", 1)[0]) if given else 0.0
    return 1.0, 0.0


def pixels_of(data: Dataset, door: Door) -> np.ndarray:
    """Return the stored pixels of an object, (rows, columns), with frames before and samples behind them.

    Raises
    ------
    BadImage
        If they are absent, cut off, too many, not finite, or in a coding that no installed decoder reads.
    """
    if not any(key in data for key in PIXELS):
        raise BadImage(f"{kind_of(data)}, holds no pixel data")
    rows, columns = whole(data, "Rows"), whole(data, "Columns")
    frames, samples = whole(data, "NumberOfFrames", 1), whole(data, "SamplesPerPixel", 1)
    if rows * columns > door.limits.pixels:
        raise BadImage(door.beyond(f"{columns}x{rows} pixels", "pixels"))
    n = rows * columns * frames
    door.check_voxels(n, f" ({frames} frames of {columns}x{rows})")
    door.check_bytes(n * samples * max(1, whole(data, "BitsAllocated") // 8), "pixels")
    _check_encapsulated(data, (columns, rows))
    try:
        values: np.ndarray = data.pixel_array
    except Exception as error:  # decoders raise what they like
        raise BadImage(f"its pixels cannot be decoded ({said(error)})") from error
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadImage("holds pixels that are not finite (NaN or infinite)")
    return values


def _check_encapsulated(data: Dataset, size: tuple[int, int]) -> None:
    """Refuse JPEG frames of another size than the object states: decoders make room for what the frame says."""
    syntax: Any = getattr(getattr(data, "file_meta", None), "TransferSyntaxUID", None)
    if syntax not in (*JPEGTransferSyntaxes, *JPEG2000TransferSyntaxes):
        return
    for frame in generate_frames(data.PixelData, number_of_frames=whole(data, "NumberOfFrames", 1)):
        try:
            found = Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")).size
        except Exception:  # a coding that Pillow does not know; the decoder says what it is
            continue
        if found != size:
            raise BadImage(f"a frame of {found[0]}x{found[1]} pixels, {size[0]}x{size[1]} stated")
