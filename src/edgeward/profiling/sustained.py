"""A run of minutes: its curve, and whether the device holds its latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.statistics import load_reasons, percentile
from edgeward.records.parts import Interval, Parity
from edgeward.records.sustained import Sustained, Window, answer
from edgeward.statistics.two_samples import factor

LOAD = ("own_cpu_s", "other_cpu_s", "steal_s")


def _window(record: Mapping[str, Any], confidence: float) -> Window:
    ordered = np.sort(np.array(record["samples_ns"], dtype=np.float64)) / 1e6
    seen, duration_s, joules = record["conditions"], record["duration_ns"] / 1e9, record["energy_j"]
    other = seen["other_cpu_s"]
    return Window(
        start_s=record["start_ns"] / 1e9,
        duration_s=duration_s,
        n=record["n"],
        p50_ms=percentile(ordered, 50, confidence),
        p90_ms=percentile(ordered, 90, confidence),
        energy_mj=None if joules is None else 1e3 * joules / record["n"],
        other_cores=None if other is None else other / duration_s,
        clock_mhz=seen["clock_mhz"][1],
        hottest_c=seen["hottest_c"][1],
        cooling=seen["cooling"][1],
        throttled=seen["throttled"],
    )


def _load(records: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Add up what others did in some windows; None where the machine does not tell."""
    found = {key: [r["conditions"][key] for r in records] for key in LOAD}
    added = {key: None if None in values else sum(values) for key, values in found.items()}
    return {**added, "hidden": max(r["conditions"].get("hidden") or 0 for r in records)}


def _ratio(last: list[float], first: list[float], confidence: float) -> Interval:
    found = factor(np.array(last), np.array(first), confidence)
    return Interval(**{name: getattr(found, name) for name in found.model_fields_set})


def sustained(
    given: Mapping[str, Any], same: Parity, emulated: Sequence[str], cfg: ProfileConfig
) -> Sustained:
    """Return the record of a run from the agent's answer to ``sustain``.

    Heating, throttling and a falling clock are what the run is to find, so they do not make it INVALID; the work of
    others in the stretches that are compared does.

    Parameters
    ----------
    same : how the engine's logits lie to the reference's. emulated : the reason why no time counts, or nothing.
    """
    asked, records = cfg.sustained, given["windows"]
    windows = [_window(record, cfg.confidence) for record in records]
    edge = min(round(asked.edge_s / asked.window_s), len(windows) // 2)
    stretches = {"first": slice(0, edge), "last": slice(len(windows) - edge, None)}
    reasons = [*emulated, *same.reasons]
    for name, part in stretches.items():
        length_s = sum(w.duration_s for w in windows[part])
        found = load_reasons(_load(records[part]), length_s, cfg.validity)
        reasons += [f"in the {name} stretch {reason}" for reason in found]
    first, last = (windows[part] for part in stretches.values())
    if not edge:
        reasons.append(
            f"an inference takes longer than sustained.window_s = {asked.window_s:g}; raise it in "
            f"config/profile/{cfg.name}.yaml"
        )
        first, last = windows[:1], windows[-1:]
    ratio = _ratio(
        [w.p50_ms.estimate for w in last], [w.p50_ms.estimate for w in first], cfg.confidence
    )
    limit = (1 + asked.max_slowdown) * np.median([w.p50_ms.estimate for w in first])
    ends, starts = ([w.energy_mj for w in part if w.energy_mj] for part in (last, first))
    return Sustained(
        threads=given["threads"],
        batch=cfg.batch,
        duration_s=windows[-1].start_s + windows[-1].duration_s,
        edge_s=sum(w.duration_s for w in first),
        max_slowdown=asked.max_slowdown,
        ratio=ratio,
        energy_ratio=_ratio(ends, starts, cfg.confidence) if ends and starts else None,
        answer=answer(ratio, asked.max_slowdown),
        held=float(np.mean([w.p50_ms.estimate <= limit for w in windows])),
        parity=same,
        counter=given["counter"],
        no_energy=given["reason"],
        windows=windows,
        verdict="INVALID" if reasons else "VALID",
        reasons=reasons,
    )
