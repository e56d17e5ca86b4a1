"""Pictures as worse cameras and worse light make them, in five severities; geometry stays, so masks fit.

The severities are those of CIFAR-10-C, made for small pictures (Hendrycks & Dietterich, Benchmarking Neural Network Robustness
to Common Corruptions and Perturbations, ICLR 2019, arXiv 1903.12261); lengths in pixels are for a side of 32 and grow with it.
MedMNIST-C (Di Salvo et al. 2024, arXiv 2406.17536) takes the same kinds for dermatoscopy. Darkness is brightness the other way;
resolution is our own: fewer pixels (area means), brought back to the size that the model takes (bilinear).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

Corruption = Literal["noise", "blur", "brightness", "darkness", "contrast", "jpeg", "resolution"]
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)
SEVERITIES: dict[Corruption, tuple[float, ...]] = {
    "noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "blur": (0.4, 0.6, 0.7, 0.8, 1.0),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "darkness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "jpeg": (80, 65, 58, 50, 40),
    "resolution": (0.75, 0.6, 0.5, 0.4, 0.3),
}
"""Standard deviation of the noise, and what is added to each pixel, on the scale 0 to 1; standard deviation of the blur in
pixels; factor of the contrast about the mean; quality; factor of the side."""


def _noise(image: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    return image + sd * rng.normal(size=image.shape)


def _blur(image: np.ndarray, sd: float, _: np.random.Generator) -> np.ndarray:
    width = sd * image.shape[0] / 32
    result: np.ndarray = gaussian_filter(image, (width, width, 0), truncate=4)
    return result


def _brightness(image: np.ndarray, more: float, _: np.random.Generator) -> np.ndarray:
    return image + more


def _darkness(image: np.ndarray, less: float, _: np.random.Generator) -> np.ndarray:
    return image - less


def _contrast(image: np.ndarray, factor: float, _: np.random.Generator) -> np.ndarray:
    mean = image.mean(axis=(0, 1), keepdims=True)
    result: np.ndarray = (image - mean) * factor + mean
    return result


def _picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(_bytes(image).squeeze())


def _jpeg(image: np.ndarray, quality: float, _: np.random.Generator) -> np.ndarray:
    stored = io.BytesIO()
    _picture(image).save(stored, "JPEG", quality=int(quality))
    return np.asarray(Image.open(stored)).reshape(image.shape) / 255


def _resolution(image: np.ndarray, factor: float, _: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    small = (max(1, int(width * factor)), max(1, int(height * factor)))
    picture = _picture(image).resize(small, Image.Resampling.BOX)
    whole = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(whole).reshape(image.shape) / 255


_WAYS: dict[Corruption, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "noise": _noise,
    "blur": _blur,
    "brightness": _brightness,
    "darkness": _darkness,
    "contrast": _contrast,
    "jpeg": _jpeg,
    "resolution": _resolution,
}


def _bytes(image: np.ndarray) -> np.ndarray:
    return (image * 255).round().clip(0, 255).astype(np.uint8)


def corrupt(
    images: np.ndarray, indices: np.ndarray, kind: Corruption, severity: int, seed: int
) -> np.ndarray:
    """Return corrupted copies of images, uint8 (b, h, w, c).

    Parameters
    ----------
    images : uint8, shape (b, h, w, c), c 1 or 3. indices : int, shape (b,): the noise of an image depends on its index,
        the kind, the severity and the seed, not on its neighbours in a batch.
    severity : 1 to 5.
    """
    value, way = SEVERITIES[kind][severity - 1], _WAYS[kind]
    number = CORRUPTIONS.index(kind)
    return np.stack([
        _bytes(way(image / 255.0, value, np.random.default_rng((seed, number, severity, int(index)))))
        for image, index in zip(images, indices, strict=True)
    ])  # fmt: skip
