"""What a source of volumes hands to `prepare`: cases by name, read one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class RawCase:
    """A volume and its mask as they are stored.

    Attributes
    ----------
    image : (c, i, j, k), any real dtype.
    mask : uint8 (i, j, k), label indices: 0 background, 1 the first class of the listing.
    affine : float64 (4, 4), indices (i, j, k, 1) -> mm, RAS+ (as in nibabel).
    """

    image: np.ndarray
    mask: np.ndarray
    affine: np.ndarray


@dataclass(frozen=True)
class VolumeListing:
    """The cases of a source; no voxel is read until `read` is called.

    Attributes
    ----------
    ids, groups : per case; one group is one patient.
    foreground : what the labels 1, 2, ... of the masks are.
    splits : str (n,), the sides that the source gives its cases, or None.
    read : row -> the case; raises `edgeward.data.pixels.BadImage` with the reason if it cannot.
    invalid : (name, reason) of what could not even be listed.
    notes : further facts for card.json.
    """

    ids: list[str]
    groups: list[str]
    foreground: list[str]
    splits: np.ndarray | None
    read: Callable[[int], RawCase]
    source: str
    licence: str
    citation: str
    invalid: list[tuple[str, str]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
