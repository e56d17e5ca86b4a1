"""Differences between models in subgroups of the test cases: by age, sex, site, device, and what else is known of cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from edgeward.core.errors import UserError, unknown
from edgeward.records.base import Interval
from edgeward.records.safety import EndpointRow, Interaction, StratumRow
from edgeward.safety.config import StudyConfig
from edgeward.safety.judging import judged_on
from edgeward.statistics import paired
from edgeward.statistics.bootstrap import resample
from edgeward.statistics.heterogeneity import cochran
from edgeward.statistics.noninferiority import Endpoint
from edgeward.tasks.assessment import Arm, Cases, Key, Replicates, Share, difference, interval

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Stratum:
    """A subgroup: `where`, bool (n,), are its test cases; `known` tells whether the column says anything of them."""

    column: str
    value: str
    where: np.ndarray
    known: bool = True

    @property
    def name(self) -> str:
        """In a sentence."""
        return f"{self.column} {self.value}"


def strata(cases: Cases, asked: Mapping[str, Sequence[float] | None]) -> list[Stratum]:
    """Return the subgroups that the configuration asks for.

    Parameters
    ----------
    asked : column -> edges of numeric bands, or None for one subgroup of each value.

    Raises
    ------
    UserError
        If the data have no such column, or a value is no number where there are edges.
    """
    found: list[Stratum] = []
    for column, edges in asked.items():
        if column not in cases.columns:
            raise unknown("column", column, cases.columns, "data.strata (config/data/)")
        values = cases.columns[column]
        missing = values == ""
        names = values.copy() if edges is None else _bands(column, values, edges)
        order = list(dict.fromkeys(_names(edges))) if edges is not None else sorted({*names} - {""})
        found += [Stratum(column, name, names == name) for name in order if (names == name).any()]
        if missing.any():
            found.append(Stratum(column, UNKNOWN, missing, known=False))
    return found


def _names(edges: Sequence[float]) -> list[str]:
    ends = [f"{edge:g}" for edge in edges]
    between = [f"{low} to {high}" for low, high in pairwise(ends)]
    return [f"below {ends[0]}", *between, f"from {ends[-1]}"]


def _bands(column: str, values: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """Name the band of each value, "" where there is none; a band holds its lower edge."""
    names = _names(edges)
    out = []
    for value in values:
        try:
            out.append(
                names[int(np.searchsorted(edges, float(value), side="right"))] if value else ""
            )
        except ValueError:
            raise UserError(
                f"data.strata.{column} has edges {list(edges)}, but a case has the value '{value}', which is no "
                "number; give null for a subgroup of each value (config/data/)."
            ) from None
    return np.array(out)


@dataclass(frozen=True)
class Compared:
    """The differences in subgroups: rows for the record, tests of interaction, endpoints judged, and units lost."""

    rows: list[StratumRow]
    interactions: list[Interaction]
    endpoints: list[EndpointRow]
    shares: list[tuple[str, Key, paired.PairedShare, StratumRow]]


def compare(reference: Arm, compressed: Arm, cfg: StudyConfig) -> Compared:
    """Compare two models in every subgroup that `cfg` asks for."""
    task, level = reference.task, cfg.confidence_level
    if cfg.strata and not task.strata:
        raise UserError(
            f"task '{task.name}' names no metric for subgroups; leave data.strata empty."
        )
    rows, endpoints, shares = [], [], []
    for stratum in strata(reference.cases, cfg.strata):
        before, after = (arm.restricted(stratum.where) for arm in (reference, compressed))
        keys = [Key(name) for name in task.strata]
        keys += [Key(task.class_difference, name) for name in reference.critical]
        drawn = _resampled(before, after, keys, cfg)
        found = [
            {key: interval(arm, key, part, level) for key in keys}
            for arm, part in zip((before, after), drawn, strict=True)
        ]
        change = {key: difference(before, after, key, drawn, level) for key in keys}
        groups = before.cases.n_groups()
        row = StratumRow(
            column=stratum.column,
            value=stratum.value,
            n=len(before.cases),
            n_groups=groups,
            enough=groups >= cfg.stratum_groups,
            reference={str(key): found[0][key] for key in keys},
            compressed={str(key): found[1][key] for key in keys},
            differences={str(key): change[key] for key in keys},
        )
        rows.append(row)
        first = keys[0]
        if cfg.stratum_margin is not None and stratum.known:
            endpoints.append(_judged(stratum, first, before, after, row, cfg))
        basis, other = before.basis(first), after.basis(first)
        if isinstance(basis, Share) and isinstance(other, Share):
            shares.append((stratum.name, first, basis.against(other, level), row))
    known = {row.column for row in rows}
    interactions = [
        i for column in sorted(known) if (i := _interaction(column, rows, str(Key(task.strata[0])), level))
    ]  # fmt: skip
    return Compared(rows, _corrected(interactions), endpoints, shares)


def _resampled(
    before: Arm, after: Arm, keys: Sequence[Key], cfg: StudyConfig
) -> tuple[Replicates, Replicates]:
    """Return replicates of both, none if no metric is resampled."""
    if all(before.basis(key).resampled is False for key in keys):
        return {}, {}
    cases = before.cases
    drawn = resample(
        {"before": before, "after": after}, before.strata, cases.groups, cfg.resamples, cfg.seed
    )
    return drawn["before"], drawn["after"]


def _judged(
    stratum: Stratum, key: Key, before: Arm, after: Arm, row: StratumRow, cfg: StudyConfig
) -> EndpointRow:
    assert cfg.stratum_margin is not None
    metric = before.task.metric(key.metric)
    doubts = (
        () if row.enough else (f"{row.n_groups} groups are too few, needed {cfg.stratum_groups}",)
    )
    endpoint = Endpoint(
        f"{metric.label} of {stratum.name}", key.metric, cfg.stratum_margin, metric.better, row.n,
        row.n_groups, stratum.name, doubts,
    )  # fmt: skip
    of = str(key)
    three = row.reference[of], row.compressed[of], row.differences[of]
    return judged_on(endpoint, key, (before, after), three, cfg)


def _interaction(
    column: str, rows: Sequence[StratumRow], key: str, level: float
) -> Interaction | None:
    """Test whether the difference is the same in all subgroups of a column that are large enough."""
    mine = [row for row in rows if row.column == column and row.enough and row.value != UNKNOWN]
    changes: list[Interval] = [row.differences[key] for row in mine]
    if len(changes) < 2 or not all(change.bounded for change in changes):
        return None
    q, p = cochran(changes, level)
    return Interaction(
        column=column, metric=key, values=[row.value for row in mine], q=q, freedom=len(mine) - 1, p=p
    )  # fmt: skip


def _corrected(found: Sequence[Interaction]) -> list[Interaction]:
    if not found:
        return []
    holm = paired.holm(np.array([row.p for row in found]))
    return [row.model_copy(update={"p_holm": float(p)}) for row, p in zip(found, holm, strict=True)]
