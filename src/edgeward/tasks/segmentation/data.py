"""A label for every pixel or voxel: what `prepare` takes from a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeward.data.store import sides
from edgeward.data.targets import Cases, Targets, table


@dataclass(frozen=True)
class Masks(Targets):
    """Pixels or voxels to be labelled."""

    cases: Cases

    def facts(self, splits: np.ndarray) -> dict[str, Any]:
        """Return pixels per label, cases without foreground, and cases per stratum, of every split."""
        empty = self.held.sum(1) == 0
        strata = np.eye(len(self.cases.names), dtype=np.int64)[self.cases.labels]
        return {
            "pixels": table(self.shares, ["background", *self.classes], splits),
            "empty": {split: int(empty[splits == split].sum()) for split in sides(splits)},
            "strata": table(strata, self.cases.names, splits),
        }


def targets(cases: Cases) -> Masks:
    """Return the classes of the masks; a case has those of which its mask holds a pixel."""
    held = cases.pixels[:, 1:] > 0
    return Masks(
        cases.foreground, held, cases.pixels, "case with", "the training cases hold it", cases
    )
