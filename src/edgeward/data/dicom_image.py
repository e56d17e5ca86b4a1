"""One DICOM image to an 8-bit picture, as a viewer shows it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut

from edgeward.data.dicom_file import kind_of, parse, pixels_of, rescaling
from edgeward.data.door import BadImage, Door, said

_OUTER = 0.5  # percent of the pixels at either end, where the file names no window


def picture(content: bytes, door: Door) -> Image.Image:
    """Return the picture that a DICOM file shows.

    Grey values go through the modality LUT and the first window that the file names (linear,
    DICOM PS3.3 C.11.2.1.2.1), or else are stretched between their 0.5 and 99.5 percentiles;
    MONOCHROME1 is inverted. Palette and YBR images become RGB.

    Raises
    ------
    BadImage
        If the file holds no pixel data, several frames, pixels that cannot be decoded or are not finite, or a window that is none.
    """
    try:
        data = parse(content, door)
        frames = int(data.get("NumberOfFrames") or 1)
        if frames > 1:
            raise BadImage(f"{kind_of(data)} of {frames} frames: one image per file is read")
        values = pixels_of(data, door)
        if data.PhotometricInterpretation == "PALETTE COLOR":
            return Image.fromarray(_eight(apply_color_lut(values, data)))
        if values.ndim == 3:
            return Image.fromarray(_eight(values))
        rescaling(data)  # a slope that is no number would pass the table below
        grey = np.asarray(apply_modality_lut(values, data), np.float64)
        low, high = _limits(grey, data)
    except BadImage:
        raise
    except Exception as error:  # decoders raise what they like
        raise BadImage(f"cannot be decoded as DICOM ({said(error)})") from error
    unit = np.clip((grey - low) / (high - low), 0, 1)
    if data.PhotometricInterpretation == "MONOCHROME1":
        unit = 1 - unit
    return Image.fromarray(np.rint(unit * 255).astype(np.uint8))


def _eight(colours: np.ndarray) -> np.ndarray:
    """Return colours (h, w, 3) in 8 bits; palettes of 16 bits lose the lower byte."""
    if colours.dtype == np.uint8:
        return np.ascontiguousarray(colours)
    if colours.dtype == np.uint16:
        return np.ascontiguousarray((colours >> 8).astype(np.uint8))
    raise BadImage(f"colours of type {colours.dtype}: 8 or 16 bits are read")


def _first(value: Any) -> float:
    return float(value[0] if isinstance(value, pydicom.multival.MultiValue) else value)


def _limits(grey: np.ndarray, data: Dataset) -> tuple[float, float]:
    """Return the values that become black and white."""
    if data.get("WindowCenter") is not None and data.get("WindowWidth") is not None:
        centre, width = _first(data.WindowCenter), _first(data.WindowWidth)
        if not (math.isfinite(centre) and math.isfinite(width)):
            raise BadImage(f"its window is none: centre {centre:g}, width {width:g}")
        if width > 1:
            return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    low, high = (float(v) for v in np.percentile(grey, [_OUTER, 100 - _OUTER]))
    return (low, high) if high > low else (low, low + 1)
