"""One grade per image: what `prepare` takes from a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.data.findings import Findings
from edgeward.data.targets import Cases, Targets, table


@dataclass(frozen=True)
class Graded(Targets):
    """Steps between grades: a case is beyond a step or not. Strata are the grades themselves."""

    cases: Cases

    def facts(self, splits: np.ndarray) -> dict[str, Any]:
        """Return how many cases have each grade."""
        grades = np.eye(len(self.cases.names), dtype=np.int64)[self.cases.labels]
        return {"strata": table(grades, self.cases.names, splits)}


def steps(grades: list[str]) -> list[str]:
    """Return what it is called to be beyond each step, from the names of the grades in ascending order."""
    return [f"{name} or worse" for name in grades[1:]]


def targets(cases: Cases) -> Graded:
    """Return the steps that each image is beyond: of K grades, in the order of the source's classes, K - 1.

    Raises
    ------
    UserError
        If there are fewer than three grades.
    """
    if len(cases.names) < 3:
        raise UserError(
            f"data.task is 'ordinal', but the data have the classes {', '.join(cases.names)} only; grades are three or more, mildest "
            "first (data.source.classes). Of two classes there is no order: use multiclass (config/data/)."
        )
    beyond = cases.labels[:, None] >= np.arange(1, len(cases.names))
    names = steps(cases.names)
    found = Findings(names, beyond.astype(np.int8))
    where = "the training images are"
    return Graded(
        names, beyond, beyond.astype(np.int64), "image with", where, cases, findings=found
    )
