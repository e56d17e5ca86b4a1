"""Corrupted copies: as severe as they say, the same for an image wherever it is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.filters import gaussian
from skimage.metrics import peak_signal_noise_ratio

from edgeward.data.corruption import CORRUPTIONS, SEVERITIES, Corruption, corrupt


def pictures(n: int = 6, channels: int = 3, size: int = 64) -> np.ndarray:
    """Clouds: smooth over a few pixels, with a little of everything finer."""
    rng = np.random.default_rng(0)
    clouds = gaussian_filter(rng.normal(size=(n, size, size, channels)), (0, 2, 2, 0))
    fine = 0.02 * rng.normal(size=clouds.shape)
    return ((0.45 + 0.15 * clouds / clouds.std() + fine).clip(0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_severity_is_worse_than_the_last(kind: Corruption, channels: int) -> None:
    images = pictures(channels=channels)
    said = []
    for severity in range(1, 6):
        found = corrupt(images, np.arange(6), kind, severity, seed=1)
        assert found.dtype == np.uint8
        assert found.shape == images.shape
        said.append(peak_signal_noise_ratio(images, found))
    assert said == sorted(said, reverse=True), said
    assert said[0] > said[-1]


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_an_image_is_the_same_alone_and_in_a_batch(kind: Corruption) -> None:
    images = pictures()
    whole = corrupt(images, np.arange(10, 16), kind, 3, seed=1)
    alone = corrupt(images[4:5], np.array([14]), kind, 3, seed=1)
    assert (alone[0] == whole[4]).all()
    other = corrupt(images, np.arange(10, 16), kind, 3, seed=2)
    assert (other != whole).any() == (kind == "noise")


def test_noise_and_blur_are_what_they_say() -> None:
    grey = np.full((1, 64, 64, 3), 128, dtype=np.uint8)
    noisy = corrupt(grey, np.array([0]), "noise", 5, seed=0) / 255
    assert noisy.std() == pytest.approx(SEVERITIES["noise"][4], rel=0.03)
    image = pictures(1)
    blurred = corrupt(image, np.array([0]), "blur", 5, seed=0)[0]
    theirs = gaussian(image[0] / 255, sigma=2.0, mode="reflect", channel_axis=-1, truncate=4)
    assert np.abs(blurred / 255 - theirs).max() < 2 / 255
