"""One scale of intensity for volumes from different scanners: 0-255, like images."""

from __future__ import annotations

import numpy as np

from edgeward.data.door import BadImage
from edgeward.data.volume_config import Percentile, VolumeConfig, Window, ZScore


def limits(channel: np.ndarray, how: ZScore | Percentile | Window) -> tuple[float, float]:
    """Return the values of a channel (d, h, w) that become 0 and 255.

    Raises
    ------
    BadImage
        If the volume has only one value where limits are taken from it.
    """
    if isinstance(how, Window):
        return how.low, how.high
    voxels = channel[channel != 0] if how.region == "nonzero" else channel
    if not voxels.size or voxels.min() == voxels.max():
        raise BadImage("all its voxels have one value")
    if isinstance(how, Percentile):
        low, high = np.percentile(voxels, [how.low, how.high])
        if low == high:
            raise BadImage(
                f"its percentiles {how.low:g} and {how.high:g} are one value, {low:g}: widen "
                "data.volume.intensity"
            )
        return float(low), float(high)
    mean, deviation = float(voxels.mean(dtype=np.float64)), float(voxels.std(dtype=np.float64))
    return mean - how.clip * deviation, mean + how.clip * deviation


def scaled(image: np.ndarray, cfg: VolumeConfig) -> np.ndarray:
    """Bring each channel of (c, d, h, w) between its limits onto 0-255: float16, clipped."""
    out = np.empty(image.shape, np.float16)
    for channel, target in zip(image, out, strict=True):
        low, high = limits(channel, cfg.intensity)
        unit = (channel.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
        target[...] = np.clip(unit, 0, 255)
    return out
