"""Rank study: which static figure of a model foretells its latency on a device?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeward.reporting.load import Candidate, Timing
from edgeward.reporting.numbers import bracket, fixed, interval
from edgeward.reporting.scaling import Cell

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


def explained(timing: Timing | None) -> dict[str, Any] | None:
    """Return the explanation of a timing's profile, or None."""
    return None if timing is None else timing.profile.get("explanation")


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
        if candidate.built["precision"] == "fp32":
            add(candidate.model, candidate.timing(device))
    taken = [p.timing.setting["resolution"] for p in found.values()]
    for cell in cells:
        same = cell.timing and cell.timing.setting["resolution"] in taken
        if cell.timing and same and cell.timing.device == device:
            add(cell.model, cell.timing)
    return list(found.values()), [f"{m} ({why})" for m, why in left_out.items() if m not in found]


def _point(model: str, timing: Timing) -> Point | str:
    """Return the point of a timing, or why there is none."""
    explanation = explained(timing)
    latency = timing.latency("p50").estimate
    facts = timing.profile["model"]
    if explanation is None or latency is None:
        return "not explained"
    if not timing.valid:
        return "timing INVALID"
    values = {
        "macs": facts.get("macs"),
        "parameters": facts.get("parameters"),
        "bytes_moved": explanation.get("bytes_moved"),
        "roofline_ms": explanation.get("roofline_ms"),
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


def _record(estimate: float, draws: np.ndarray, n: int) -> dict[str, Any]:
    """Return an interval record with the percentile interval of bootstrap draws."""
    there = draws[np.isfinite(draws)]
    tail = (1 - LEVEL) / 2
    bounded = n >= LEAST and len(there) > 0
    return {
        "estimate": None if math.isnan(estimate) else estimate,
        "low": float(np.quantile(there, tail)) if bounded else None,
        "high": float(np.quantile(there, 1 - tail)) if bounded else None,
        "n": n,
        "method": f"bootstrap over models, {RESAMPLES} resamples, percentile, {LEVEL:g}",
    }


def study(found: Sequence[Point]) -> dict[str, Any] | None:
    """Correlate latency with each predictor that all points have.

    Returns
    -------
    ``n, models, predictors [{name, rho (interval record), p}]``, ``difference`` and
    ``roofline_difference`` (rho of bytes moved, and of the roofline time, less rho of MACs, from the
    same resamples) and ``answer`` in words. None for fewer than three models.
    """
    if len(found) < 3:
        return None
    n = len(found)
    latency = np.array([point.latency_ms for point in found])
    shared = [name for name in PREDICTORS if all(name in p.predictors for p in found)]
    values = {name: np.array([p.predictors[name] for p in found]) for name in shared}
    draws = np.random.default_rng(SEED).integers(0, n, (RESAMPLES, n))
    rhos = {name: float(spearman(values[name], latency)) for name in shared}
    boot = {name: spearman(values[name][draws], latency[draws]) for name in shared}
    result: dict[str, Any] = {
        "n": n,
        "models": [point.model for point in found],
        "predictors": [
            {
                "name": name,
                "rho": _record(rhos[name], boot[name], n),
                "p": None if math.isnan(rhos[name]) else permutation_p(values[name], latency),
            }
            for name in shared
        ],
    }
    for key, name in (("difference", "bytes_moved"), ("roofline_difference", "roofline_ms")):
        known = name in shared
        result[key] = (
            _record(rhos[name] - rhos["macs"], boot[name] - boot["macs"], n) if known else None
        )
    result["answer"] = " ".join([answer(result), *_roofline(result)])
    return result


def studies(
    groups: Mapping[str, list[Candidate]], cells: Sequence[Cell] = ()
) -> list[dict[str, Any]]:
    """Return the study of every data set and device that has one (see `points` and `study`)."""
    found = []
    for data, members in groups.items():
        for device in dict.fromkeys(d for c in members for d in c.profiles):
            shown, left_out = points(members, device, cells)
            result = study(shown)
            if result is not None:
                setting = shown[0].timing
                found.append(
                    {
                        "data": data,
                        "device": device,
                        "threads": setting.threads,
                        "batch": setting.batch,
                        "left_out": left_out,
                        **result,
                    }
                )
    return found


def answer(result: Mapping[str, Any]) -> str:
    """Say whether memory traffic foretells latency better than MACs do."""
    n = result["n"]
    if result["difference"] is None:
        return "The bytes moved are not known for every model, so the question stays open."
    rho = {p["name"]: interval(p["rho"]) for p in result["predictors"]}
    change = interval(result["difference"])
    numbers = (
        f"Spearman's rho {fixed(rho['bytes_moved'].estimate, 2)} "
        f"{bracket(rho['bytes_moved'], 2)} against {fixed(rho['macs'].estimate, 2)} "
        f"{bracket(rho['macs'], 2)}, difference {fixed(change.estimate, 2, signed=True)} "
        f"{bracket(change, 2, signed=True)}, {n} models"
    )
    if change.low is None or change.high is None:
        return f"Too few models to tell whether memory traffic or MACs foretell latency: {n}."
    if change.low > 0:
        return f"Yes: memory traffic foretells latency better than MACs here ({numbers})."
    if change.high < 0:
        return f"No: MACs foretell latency better than memory traffic here ({numbers})."
    return f"Not decided: these models do not tell memory traffic and MACs apart ({numbers})."


def _roofline(result: Mapping[str, Any]) -> list[str]:
    """Say whether the time that memory and arithmetic allow foretells latency better than MACs do."""
    change = interval(result["roofline_difference"])
    if change.low is None or change.high is None:
        return []
    rho = next(interval(p["rho"]) for p in result["predictors"] if p["name"] == "roofline_ms")
    how = (
        "better than"
        if change.low > 0
        else "worse than"
        if change.high < 0
        else "not surely better than"
    )
    return [
        f"The roofline time, which weighs both, foretells it {how} MACs: {fixed(rho.estimate, 2)} "
        f"{bracket(rho, 2)}, difference {fixed(change.estimate, 2, signed=True)} "
        f"{bracket(change, 2, signed=True)}."
    ]
