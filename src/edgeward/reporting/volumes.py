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
from typing import TYPE_CHECKING

import numpy as np
import yaml

from edgeward.core.errors import UserError
from edgeward.core.windows import padding, starts
from edgeward.data.store import read_volumes
from edgeward.reporting.load import Candidate, Timing
from edgeward.reporting.numbers import Interval, interval

if TYPE_CHECKING:
    from edgeward.pipeline.paths import Prepare

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
    size : of a window, voxels (d, h, w).
    overlap : that neighbouring windows have in common, a share.
    shapes : of the test volumes, voxels (d, h, w).
    """

    candidate: Candidate
    timing: Timing
    size: Shape
    overlap: float
    channels: int
    n_labels: int
    shapes: list[Shape]

    def seconds(self, shape: Sequence[int]) -> Interval:
        """Return the time of all windows of a volume, s, with the interval of the latency."""
        n, p50 = self.windows_of(shape), self.timing.latency("p50")
        mid, low, high = (
            None if x is None else n * x / 1e3 for x in (p50.estimate, p50.low, p50.high)
        )
        return Interval(mid, low, high)

    def memory_mb(self, shape: Sequence[int]) -> float | None:
        """Return engine and arrays together, MB; None where the engine's memory is not known."""
        arrays = arrays_mb(shape, self.size, self.channels, self.n_labels)
        return None if self.engine_mb is None else self.engine_mb + arrays

    def windows_of(self, shape: Sequence[int]) -> int:
        """Return how many windows cover a volume."""
        return windows(shape, self.size, self.overlap)

    @property
    def engine_mb(self) -> float | None:
        """The engine's measured peak, MB."""
        return interval(self.timing.setting.get("peak_memory_mb")).estimate

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


def of_members(members: Sequence[Candidate]) -> list[Whole]:
    """Return every candidate of a data set of volumes, on every device; nothing for other data."""
    card = members[0].card
    if not members[0].task.segments or card.get("spatial_dims") != 3:
        return []
    shapes = _test_shapes(members[0].paths.prepare)
    found = []
    for candidate in members:
        size = tuple(int(side) for side in candidate.built["meta"]["image_size"])
        for device in candidate.profiles:
            timing = candidate.timing(device)
            if timing is None or timing.batch != 1:
                continue  # a latency of several windows at once says nothing of one
            overlap = _overlap(candidate.paths.assess.config)
            n_labels = 1 + len(card["classes"])
            channels = int(timing.profile["model"]["input_shape"][1])
            found.append(Whole(candidate, timing, size, overlap, channels, n_labels, shapes))
    return found


def _test_shapes(prepared: Prepare) -> list[Shape]:
    with prepared.split.open(newline="") as handle:
        splits = [row["split"] for row in csv.DictReader(handle)]
    volumes = read_volumes(prepared.volumes)
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
