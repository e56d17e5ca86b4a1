"""Several findings per image: what `prepare` takes from a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeward.data.findings import UNKNOWN, cooccurrence
from edgeward.data.store import sides
from edgeward.data.targets import Cases, Targets, table


@dataclass(frozen=True)
class Several(Targets):
    """Findings to be called."""

    cases: Cases

    def facts(self, splits: np.ndarray) -> dict[str, Any]:
        """Return the cases without any finding, those of which a finding is not known, and which training cases have two."""
        assert self.findings is not None
        nothing = np.logical_not(self.held.any(axis=1))
        unknown = (self.findings.values == UNKNOWN).astype(np.int64)
        train: np.ndarray = splits == "train"
        if not train.any():  # folds and held-out sets train nothing yet
            train = np.ones_like(train)
        strata = np.eye(len(self.cases.names), dtype=np.int64)[self.cases.labels]
        return {
            "strata": table(strata, self.cases.names, splits),
            "empty": {side: int(nothing[splits == side].sum()) for side in sides(splits)},
            "unknown": table(unknown, self.classes, splits) if unknown.any() else None,
            "cooccurrence": cooccurrence(self.findings, train),
        }


def targets(cases: Cases) -> Several:
    """Return the findings of the images."""
    assert cases.findings is not None, "the source gives findings"
    findings = cases.findings
    held, counts = findings.held, findings.held.astype(np.int64)
    where = "the training images have it"
    return Several(findings.names, held, counts, "image with", where, cases, findings=findings)
