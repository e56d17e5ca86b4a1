"""Time and memory of whole volumes, from those of one window and the number of windows.

The time is the median latency of one window times the number of windows; what reading, resampling
and blending take is not in it. The memory is the engine's measured peak plus the arrays that
`edgeward.core.windows.sliding` holds: image, padded image, sum of logits, sum of weights, float32.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import yaml

from edgeward.core.errors import UserError
from edgeward.core.windows import padding, starts
from edgeward.data.store import read_volumes
from edgeward.records.base import Interval
from edgeward.records.profile import Profile, Setting
from edgeward.tasks.page import Shown

Shape = tuple[int, ...]
LARGEST = 512 * 512 * 320  # voxels up to which the figure goes: a CT of chest and abdomen
STEPS = 24
_FLOAT = 4  # bytes


def windows(shape: Sequence[int], size: Sequence[int], overlap: float) -> int:
    """Return how many windows cover a volume (see `edgeward.core.windows.sliding`)."""
    if tuple(shape) == tuple(size):
        return 1
    whole = _padded(shape, size)
    return prod(len(starts(n, side, overlap)) for n, side in zip(whole, size, strict=True))


def arrays_mb(shape: Sequence[int], size: Sequence[int], channels: int, n_labels: int) -> float:
    """Return the arrays that a volume takes besides the engine, MB (10^6 bytes)."""
    voxels, whole = prod(shape), prod(_padded(shape, size))
    if tuple(shape) == tuple(size):
        return _FLOAT * voxels * (channels + n_labels) / 1e6
    return _FLOAT * (channels * voxels + (channels + n_labels + 1) * whole) / 1e6


def _padded(shape: Sequence[int], size: Sequence[int]) -> list[int]:
    pads = padding(shape, size)
    return [n + before + behind for n, (before, behind) in zip(shape, pads, strict=True)]


@dataclass(frozen=True)
class Whole:
    """A candidate on whole volumes, on one device.

    Attributes
    ----------
    setting : how it was timed.
    size : of a window, voxels (d, h, w).
    overlap : that neighbouring windows have in common, a share.
    shapes : of the test volumes, voxels (d, h, w).
    """

    candidate: Shown
    profile: Profile
    setting: Setting
    size: Shape
    overlap: float
    shapes: list[Shape]

    @property
    def valid(self) -> bool:
        """True where the timing met its own conditions."""
        return self.setting.verdict == "VALID"

    def seconds(self, shape: Sequence[int]) -> Interval:
        """Return the time of all windows of a volume, s, with the interval of the latency."""
        n = self.windows_of(shape)
        p50 = self.setting.latency_ms.p50
        mid, low, high = (
            None if x is None else n * x / 1e3 for x in (p50.estimate, p50.low, p50.high)
        )
        return Interval(estimate=mid, low=low, high=high)

    def memory_mb(self, shape: Sequence[int]) -> float:
        """Return the engine's measured peak and the arrays together, MB."""
        channels, n_labels = self.profile.model.input_shape[1], 1 + len(self.candidate.card.classes)
        return self.setting.peak_memory_mb + arrays_mb(shape, self.size, channels, n_labels)

    def windows_of(self, shape: Sequence[int]) -> int:
        """Return how many windows cover a volume."""
        return windows(shape, self.size, self.overlap)

    @property
    def largest(self) -> Shape:
        """The largest test volume."""
        return max(self.shapes, key=lambda shape: (prod(shape), shape))

    @property
    def median(self) -> Shape:
        """The test volume of median size."""
        order = sorted(self.shapes, key=lambda shape: (prod(shape), shape))
        return order[(len(order) - 1) // 2]

    def growing(self) -> list[Shape]:
        """Return shapes like that of the median volume, from its size to `LARGEST` voxels."""
        first = self.median
        last = max(1.0, (LARGEST / prod(first)) ** (1 / 3))
        scales = np.geomspace(1, last, STEPS)
        return [tuple(round(side * float(scale)) for side in first) for scale in scales]


def of_members(members: Sequence[Shown]) -> list[Whole]:
    """Return every candidate of a data set of volumes, on every device; nothing for other data."""
    if members[0].card.spatial_dims != 3:
        return []
    shapes = _test_shapes(members[0].prepared)
    return [
        Whole(
            one,
            profile,
            profile.settings[0],
            tuple(one.built.meta.image_size),
            _overlap(one.assessed / "config.yaml"),
            shapes,
        )
        for one in members
        for profile in one.profiles.values()
        # a latency of several windows at once says nothing of one
        if profile.settings and profile.settings[0].batch == 1
    ]


def _test_shapes(root: Path) -> list[Shape]:
    with (root / "split.csv").open(newline="") as handle:
        splits = [row["split"] for row in csv.DictReader(handle)]
    volumes = read_volumes(root / "volumes.csv")
    return [v.shape[1:] for v, split in zip(volumes, splits, strict=True) if split == "test"]


def _overlap(path: Path) -> float:
    try:
        return float(yaml.safe_load(path.read_text())["safety"]["overlap"])
    except FileNotFoundError:
        raise UserError(
            f"The report needs {path} (settings of assess), which is not there."
        ) from None
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} lacks safety.overlap ({error}). Run assess again.") from None
