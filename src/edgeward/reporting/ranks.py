"""Rank study: which static figure of a model foretells its latency on a device?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeward.core.text import fixed
from edgeward.records.base import Interval, Record
from edgeward.reporting.load import Candidate, Timing
from edgeward.reporting.numbers import bracket
from edgeward.reporting.scaling import Cell
from edgeward.reporting.sweep import devices_of

RESAMPLES = 10_000
SEED = 0
LEVEL = 0.95
LEAST = 5  # models; an interval over fewer says nothing
ALL_ORDERS = 8  # models up to which every order is tried: 8! = 40,320
PREDICTORS = {
    "macs": "MACs",
    "parameters": "Parameters",
    "bytes_moved": "Bytes moved",
    "roofline_ms": "Roofline time",
}


@dataclass(frozen=True)
class Point:
    """One model: its latency and what might foretell it."""

    model: str
    timing: Timing
    latency_ms: float
    predictors: dict[str, float]


class Predictor(Record):
    """How well one figure foretells latency: Spearman's rho, and its two-sided p value."""

    name: str
    rho: Interval
    p: float | None


class Correlations(Record):
    """Latency against each predictor that all models have.

    ``difference`` and ``roofline_difference`` are rho of bytes moved, and of the roofline time, less rho of
    MACs, from the same resamples.
    """

    n: int
    models: list[str]
    predictors: list[Predictor]
    difference: Interval | None
    roofline_difference: Interval | None
    answer: str

    def predictor(self, name: str) -> Predictor | None:
        """Return a predictor by its name, or None if it is not known for every model."""
        return next((p for p in self.predictors if p.name == name), None)


class Study(Correlations):
    """The study of a data set on a device, and the models left out with the reason."""

    data: str
    device: str
    threads: int
    batch: int
    left_out: list[str]


def points(
    members: Sequence[Candidate], device: str, cells: Sequence[Cell] = ()
) -> tuple[list[Point], list[str]]:
    """Return a point for each fp32 model, and the models left out with the reason.

    Of several seeds the first counts: they differ in their weights, not in what is executed.

    Parameters
    ----------
    cells : untrained networks; those of the members' image size on this device join as models of
        their own.
    """
    found: dict[str, Point] = {}
    left_out: dict[str, str] = {}

    def add(model: str, timing: Timing | None) -> None:
        if model in found or timing is None:
            return
        point = _point(model, timing)
        if isinstance(point, Point):
            found[model] = point
        else:
            left_out[model] = point

    for candidate in members:
        if candidate.built.precision == "fp32":
            add(candidate.model, candidate.timing(device))
    taken = [p.timing.setting.resolution for p in found.values()]
    for cell in cells:
        timing = cell.timing if cell.timing and cell.timing.profile.device == device else None
        if timing and timing.setting.resolution in taken:
            add(cell.model, timing)
    return list(found.values()), [f"{m} ({why})" for m, why in left_out.items() if m not in found]


def _point(model: str, timing: Timing) -> Point | str:
    """Return the point of a timing, or why there is none."""
    explanation, latency, facts = (
        timing.profile.explanation,
        timing.p50.estimate,
        timing.profile.model,
    )
    if explanation is None or latency is None:
        return "not explained"
    if not timing.valid:
        return "timing INVALID"
    values = {
        "macs": facts.macs,
        "parameters": facts.parameters,
        "bytes_moved": explanation.bytes_moved,
        "roofline_ms": explanation.roofline_ms,
    }
    there = {name: float(v) for name, v in values.items() if v is not None}
    return Point(model, timing, latency, there)


def rank(values: np.ndarray) -> np.ndarray:
    """Return the ranks from 1 along the last axis, ties at their mean rank."""
    pairs = values[..., None, :], values[..., :, None]
    smaller, equal = (np.less(*pairs).sum(-1), np.equal(*pairs).sum(-1))
    result: np.ndarray = smaller + (equal + 1) / 2
    return result


def _correlate(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's correlation of the last axes; NaN where one of them is constant."""
    x = x - x.mean(-1, keepdims=True)
    y = y - y.mean(-1, keepdims=True)
    scale = np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    with np.errstate(invalid="ignore"):
        result: np.ndarray = np.where(scale > 0, (x * y).sum(-1) / scale, np.nan)
    return result


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of the last axes, ties at their mean rank."""
    return _correlate(rank(x), rank(y))


def permutation_p(x: np.ndarray, y: np.ndarray) -> float:
    """Two-sided p value of Spearman's rho under exchangeable pairings.

    Exact (every order) up to `ALL_ORDERS` pairs; beyond, `RESAMPLES` random orders, of which the
    observed one counts as one.
    """
    n = len(x)
    ranks, other = rank(x), rank(y)
    observed = abs(_correlate(ranks, other))
    if n <= ALL_ORDERS:
        orders = np.array(list(itertools.permutations(range(n))))
        return float(np.mean(np.abs(_correlate(ranks[orders], other)) >= observed - 1e-12))
    rng = np.random.default_rng(SEED)
    orders = rng.permuted(np.tile(np.arange(n), (RESAMPLES, 1)), axis=1)
    hits = np.sum(np.abs(_correlate(ranks[orders], other)) >= observed - 1e-12)
    return float((hits + 1) / (RESAMPLES + 1))


def _interval(estimate: float, draws: np.ndarray, n: int) -> Interval:
    """Return an interval by the percentiles of bootstrap draws; none for a few models."""
    there = draws[np.isfinite(draws)]
    tail = (1 - LEVEL) / 2
    bounded = n >= LEAST and len(there) > 0
    return Interval(
        estimate=estimate,
        low=np.quantile(there, tail) if bounded else None,
        high=np.quantile(there, 1 - tail) if bounded else None,
        n=n,
        method=f"bootstrap over models, {RESAMPLES} resamples, percentile, {LEVEL:g}",
    )


def correlate(found: Sequence[Point]) -> Correlations | None:
    """Correlate latency with each predictor that all points have; None for fewer than three models."""
    if len(found) < 3:
        return None
    n = len(found)
    latency = np.array([point.latency_ms for point in found])
    shared = [name for name in PREDICTORS if all(name in p.predictors for p in found)]
    values = {name: np.array([p.predictors[name] for p in found]) for name in shared}
    draws = np.random.default_rng(SEED).integers(0, n, (RESAMPLES, n))
    rhos = {name: float(spearman(values[name], latency)) for name in shared}
    boot = {name: spearman(values[name][draws], latency[draws]) for name in shared}
    predictors = [
        Predictor(
            name=name,
            rho=_interval(rhos[name], boot[name], n),
            p=None if math.isnan(rhos[name]) else permutation_p(values[name], latency),
        )
        for name in shared
    ]
    moved, roofline = (
        _interval(rhos[name] - rhos["macs"], boot[name] - boot["macs"], n)
        if name in shared
        else None
        for name in ("bytes_moved", "roofline_ms")
    )
    rho = {p.name: p.rho for p in predictors}
    return Correlations(
        n=n,
        models=[point.model for point in found],
        predictors=predictors,
        difference=moved,
        roofline_difference=roofline,
        answer=" ".join([_answer(n, rho, moved), *_roofline(rho, roofline)]),
    )


def studies(groups: Mapping[str, list[Candidate]], cells: Sequence[Cell] = ()) -> list[Study]:
    """Return the study of every data set and device that has one (see `points` and `correlate`)."""
    found = []
    for data, members in groups.items():
        for device in devices_of(members):
            shown, left_out = points(members, device, cells)
            result = correlate(shown)
            if result is not None:
                setting = shown[0].timing.setting
                found.append(
                    Study(
                        data=data,
                        device=device,
                        threads=setting.threads,
                        batch=setting.batch,
                        left_out=left_out,
                        **dict(result),
                    )
                )
    return found


def _answer(n: int, rho: Mapping[str, Interval], change: Interval | None) -> str:
    """Say whether memory traffic foretells latency better than MACs do."""
    if change is None:
        return "The bytes moved are not known for every model, so the question stays open."
    if change.low is None or change.high is None:
        return f"Too few models to tell whether memory traffic or MACs foretell latency: {n}."
    numbers = f"Spearman's rho {_said(rho['bytes_moved'])} against {_said(rho['macs'])}, {_moved(change)}, {n} models"
    if change.low > 0:
        return f"Yes: memory traffic foretells latency better than MACs here ({numbers})."
    if change.high < 0:
        return f"No: MACs foretell latency better than memory traffic here ({numbers})."
    return f"Not decided: these models do not tell memory traffic and MACs apart ({numbers})."


def _roofline(rho: Mapping[str, Interval], change: Interval | None) -> list[str]:
    """Say whether the time that memory and arithmetic allow foretells latency better than MACs do."""
    if change is None or change.low is None or change.high is None:
        return []
    how = "better" if change.low > 0 else "worse" if change.high < 0 else "not surely better"
    return [
        f"The roofline time, which weighs both, foretells it {how} than MACs: {_said(rho['roofline_ms'])}, "
        f"{_moved(change)}."
    ]


def _said(value: Interval) -> str:
    return f"{fixed(value.estimate, 2)} {bracket(value, 2)}"


def _moved(change: Interval) -> str:
    return f"difference {fixed(change.estimate, 2, signed=True)} {bracket(change, 2, signed=True)}"
