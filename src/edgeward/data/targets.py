"""What `prepare` knows of the cases, and what a task takes from it.

``tasks/<name>/data.py`` holds ``targets(cases: Cases) -> Targets``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeward.data.findings import Findings
from edgeward.data.store import sides


@dataclass(frozen=True)
class Cases:
    """The readable cases, in the order of the arrays.

    Attributes
    ----------
    ids, groups : names of the cases, and of their lesions or patients.
    labels : int64 (n,): what splits keep equal, the class or the stratum of each case; `names` of the labels.
    given : str (n,), the source's splits, or None.
    pixels : int64 (n, 1 + classes of the masks), pixels or voxels of each label; without masks (n, 1), all of them.
    findings : where a case may have several labels or none.
    foreground : classes of the masks.
    columns : what else is known of the cases: name -> a value for each.
    """

    ids: list[str]
    groups: list[str]
    labels: np.ndarray
    names: list[str]
    given: np.ndarray | None
    pixels: np.ndarray
    foreground: list[str]
    findings: Findings | None = None
    columns: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class PixelSums:
    """Sums of each case over its pixels or voxels.

    Attributes
    ----------
    values, squares : (n, c), of the values and of their squares.
    pixels : int64 (n, n_labels), how many there are of each label (n, 1: of all, without masks).
    """

    values: np.ndarray
    squares: np.ndarray
    pixels: np.ndarray


@dataclass(frozen=True)
class Targets:
    """What is to be predicted.

    Attributes
    ----------
    classes : in label order, without a background.
    held : bool (n, len(classes)): which case has which class.
    shares : (n, n_labels): how much each case has of each label, a background included; they sum to the prior.
    having : what a message calls cases with a class, before its name.
    rare_of : what a rare class is seldom in, in words.
    findings : what models learn, if it is not the label of each case.
    """

    classes: list[str]
    held: np.ndarray
    shares: np.ndarray
    having: str
    rare_of: str
    findings: Findings | None = field(default=None, kw_only=True)

    def facts(self, splits: np.ndarray) -> dict[str, Any]:
        """Return further fields of the `edgeward.records.card.Card`, from the split of each case, str (n,)."""
        del splits
        return {}


def table(
    values: np.ndarray, names: Sequence[str], splits: np.ndarray
) -> dict[str, dict[str, int]]:
    """Sum (n, c) over the cases of each split or fold: {split: {name: sum}}."""
    return {
        split: dict(zip(names, values[splits == split].sum(0).tolist(), strict=True))
        for split in sides(splits)
    }
