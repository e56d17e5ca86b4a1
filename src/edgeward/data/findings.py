"""Several findings of a case, each there, not there, or not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from edgeward.core.errors import UserError

UNKNOWN = -1


@dataclass(frozen=True)
class Findings:
    """What cases have.

    Attributes
    ----------
    names : of the findings.
    values : int8 (n, len(names)): 1 a case has it, 0 it has not, -1 (`UNKNOWN`) nobody says.
    """

    names: list[str]
    values: np.ndarray

    @property
    def held(self) -> np.ndarray:
        """Which case is known to have which finding, bool (n, c)."""
        result: np.ndarray = self.values == 1
        return result

    def of(self, rows: np.ndarray) -> Self:
        """Return those of some cases."""
        return type(self)(self.names, self.values[rows])

    def only(self, names: Sequence[str]) -> Self:
        """Return some of the findings."""
        kept = [k for k, name in enumerate(self.names) if name in names]
        return type(self)([self.names[k] for k in kept], self.values[:, kept])


def scarce(
    findings: Findings, groups: Sequence[str], sides: Mapping[str, np.ndarray] | int
) -> dict[str, str]:
    """Return the findings that cannot be on every side: name -> where they lack, in words.

    Parameters
    ----------
    groups : of each case.
    sides : the cases of each side, bool (n,); or, before they are dealt, their number, which as many groups must have a finding.
    """
    held = findings.held
    if isinstance(sides, int):
        of = np.unique(groups, return_inverse=True)[1]
        several = [len(np.unique(of[mine])) for mine in held.T]
        return {
            name: f"{n} group{'' if n == 1 else 's'} have it, {sides} sides need one each"
            for name, n in zip(findings.names, several, strict=True)
            if n < sides
        }
    lacks = {
        name: [side for side, where in sides.items() if not mine[where].any()]
        for name, mine in zip(findings.names, held.T, strict=True)
    }
    return {name: f"none in {', '.join(where)}" for name, where in lacks.items() if where}


def without_scarce(findings: Findings, lacking: Mapping[str, str], leave_out: bool) -> Findings:
    """Return the findings without those that cannot be on every side.

    Raises
    ------
    UserError
        Naming and counting them, if they are not to be left out, or if fewer than one is left.
    """
    if not lacking:
        return findings
    total = findings.held.sum(axis=0).tolist()
    counts = dict(zip(findings.names, total, strict=True))
    told = "\n".join(f"  {name}: {counts[name]} cases, {why}" for name, why in lacking.items())
    kept = [name for name in findings.names if name not in lacking]
    if not leave_out or not kept:
        raise UserError(
            f"{len(lacking)} of {len(findings.names)} findings are not on every side of the split, so they cannot be learnt, or not be "
            f"judged:\n{told}\nAdd cases, leave them out of data.source.findings, or set data.scarce: leave_out (config/data/), "
            "which keeps their images and predicts the other findings."
        )
    return findings.only(kept)


def cooccurrence(findings: Findings, where: np.ndarray) -> list[list[int]]:
    """Count the cases that have two findings, and on the diagonal those that have one: (c, c), of some cases, bool (n,)."""
    held = findings.held[where].astype(np.int64)
    result: list[list[int]] = (held.T @ held).tolist()
    return result
