"""A label for every pixel or voxel: what `prepare` takes from a source."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeward.data.store import SPLITS
from edgeward.data.targets import Cases, Targets, table


def targets(cases: Cases) -> Targets:
    """Return the classes of the masks; a case has those of which its mask holds a pixel."""
    held = cases.pixels[:, 1:] > 0
    return Targets(cases.foreground, held, cases.pixels, "case with", "the training cases hold it")


def facts(cases: Cases, splits: np.ndarray) -> dict[str, Any]:
    """Return pixels per label, cases without foreground, and cases per stratum, of every split."""
    empty = cases.pixels[:, 1:].sum(1) == 0
    strata = np.eye(len(cases.names), dtype=np.int64)[cases.labels]
    return {
        "pixels": table(cases.pixels, ["background", *cases.foreground], splits),
        "empty": {split: int(empty[splits == split].sum()) for split in SPLITS},
        "strata": table(strata, cases.names, splits),
    }
