"""The comparison: one flat row per candidate and device, the same in page, CSV, JSON, terminal.

Standard library only, since the end summary in the terminal uses it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeward.reporting.load import Candidate, reference_of
from edgeward.reporting.numbers import Interval, interval, ratio

if TYPE_CHECKING:
    from edgeward.reporting.interleaved import Ratio

Row = dict[str, Any]
Ratios = Mapping[tuple[str, str], "Ratio"]
SCHEMA = "edgeward-comparison/2"


@dataclass(frozen=True)
class Speed:
    """How many times as fast as its reference a candidate is.

    Attributes
    ----------
    in_turns : True if both took turns in one process, False if they were timed one after the other.
    valid : whether what it was computed from is VALID.
    """

    factor: Interval
    in_turns: bool
    valid: bool


def speed(
    candidate: Candidate, device: str | None, candidates: list[Candidate], paired: Ratios
) -> Speed | None:
    """Return the speed-up to quote: of inferences in turns where there are any.

    Two latencies of the same machine, minutes apart, may differ by more than the models do.

    Parameters
    ----------
    paired : of `edgeward.reporting.interleaved.own_reference`.

    Returns
    -------
    None for a reference, and where one of the two was not measured in the same setting.
    """
    found = paired.get((candidate.key, device or ""))
    if found is not None:
        return Speed(found.speedup, True, found.valid)
    factor = speedup(candidate, device, candidates)
    if not factor.known:
        return None
    return Speed(factor, False, _speedup_timing(candidate, device, candidates) == "VALID")


def _spread(name: str, value: Interval) -> Row:
    return {name: value.estimate, f"{name}_low": value.low, f"{name}_high": value.high}


def rows(candidates: list[Candidate], paired: Ratios) -> list[Row]:
    """Return the comparison, one row per candidate and device (one with device None if unprofiled).

    Rows of different tasks have different metrics. Times are in ms, sizes in MB (10^6 bytes), memory in MB above the process's baseline.
    ``speedup`` is the reference's p50 over the candidate's on the same device and setting;
    ``paired_speedup`` the same from inferences taken in turns. ``timing`` is VALID, INVALID, REFUSED
    (the engine cannot load the model) or None (not profiled).

    Parameters
    ----------
    paired : of `edgeward.reporting.interleaved.own_reference`; empty without comparisons in turns.
    """
    return [
        _row(candidate, device, candidates, paired.get((candidate.key, device or "")))
        for candidate in candidates
        for device in (candidate.profiles or [None])
    ]


def _row(
    candidate: Candidate, device: str | None, candidates: list[Candidate], paired: Ratio | None
) -> Row:
    timing = candidate.timing(device) if device else None
    setting = timing.setting if timing else {}
    profile = candidate.profiles[device] if device else {}
    model = profile.get("model", {})
    p50 = timing.latency("p50") if timing else Interval()
    p90 = timing.latency("p90") if timing else Interval()
    size = interval(model.get("file_bytes")).estimate
    columns = candidate.task.columns
    return {
        "data": candidate.data,
        "task": candidate.task.name,
        "model": candidate.model,
        "recipe": candidate.recipe,
        "seed": candidate.seed,
        "device": device,
        "precision": candidate.built["precision"],
        "verdict": candidate.outcome,
        "timing": "REFUSED" if profile.get("refused") else setting.get("verdict"),
        "threads": setting.get("threads"),
        "batch": setting.get("batch"),
        "resolution": _resolution(setting.get("resolution")),
        "warmup": setting.get("warmup"),
        "n_timed": setting.get("n"),
        **_spread("p50_ms", p50),
        **_spread("p90_ms", p90),
        **_spread("speedup", speedup(candidate, device, candidates)),
        "speedup_timing": _speedup_timing(candidate, device, candidates),
        **_spread("paired_speedup", paired.speedup if paired else Interval()),
        "paired_timing": ("VALID" if paired.valid else "INVALID") if paired else None,
        "energy": (profile.get("energy") or {}).get("status"),
        "energy_gross_mj": _energy(profile, "gross_mj"),
        "energy_net_mj": _energy(profile, "net_mj"),
        "load_ms": interval(setting.get("load_ms")).estimate,
        "peak_memory_mb": interval(setting.get("peak_memory_mb")).estimate,
        "file_mb": None if size is None else size / 1e6,
        "parameters": model.get("parameters"),
        "macs": model.get("macs"),
        "int8_mac_share": interval(profile.get("int8_mac_share")).estimate,
        **_explained(profile.get("explanation") or {}),
        **_merged(_spread(m.name, candidate.metric(m.name)) for m in columns),
        **_merged(_spread(f"delta_{m.name}", candidate.difference(m.name)) for m in columns),
        **_sample(candidate),
    }


def _merged(parts: Iterable[Row]) -> Row:
    return {name: value for part in parts for name, value in part.items()}


def _sample(candidate: Candidate) -> Row:
    """Return what the test set consists of."""
    n = candidate.safety["n"] if isinstance(candidate.safety["n"], dict) else {}
    common = {"n_test": n.get("test"), "n_groups": n.get("groups")}
    if candidate.task.segments:
        return {**common, "n_lesions": n.get("lesions"), "n_small_lesions": n.get("small_lesions")}
    return {**common, "n_rare": rare_cases(candidate)}


def _energy(profile: dict[str, Any], name: str) -> float | None:
    """Return the median energy per inference in mJ, where it was measured and is VALID."""
    energy = profile.get("energy") or {}
    if energy.get("status") != "measured" or energy.get("verdict") != "VALID":
        return None
    return interval((energy.get(name) or {}).get("median")).estimate


def _explained(explanation: dict[str, Any]) -> Row:
    names = ("bytes_moved", "intensity", "roofline_ms", "layout_changes", "fused_share")
    return {name: interval(explanation.get(name)).estimate for name in names}


def _resolution(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return "x".join(str(v) for v in value)
    return None if value is None else str(value)


def rare_cases(candidate: Candidate) -> int:
    """Return the number of test images of rare classes."""
    rare = set(candidate.safety["rare_classes"])
    return sum(entry["n"] for entry in candidate.safety["per_class"] if entry["class"] in rare)


def speedup(candidate: Candidate, device: str | None, candidates: list[Candidate]) -> Interval:
    """Return the reference's p50 over the candidate's in the same setting, or nothing."""
    reference = reference_of(candidate, candidates)
    if device is None or reference is None or reference is candidate:
        return Interval()
    mine, other = candidate.timing(device), reference.timing(device)
    if mine is None or other is None:
        return Interval()
    if (mine.threads, mine.batch) != (other.threads, other.batch):
        return Interval()
    return ratio(other.latency("p50"), mine.latency("p50"))


def _speedup_timing(
    candidate: Candidate, device: str | None, candidates: list[Candidate]
) -> str | None:
    """Return VALID if both timings behind a speed-up are, INVALID if not, None without one."""
    reference = reference_of(candidate, candidates)
    if not speedup(candidate, device, candidates).known or device is None or reference is None:
        return None
    timings = candidate.timing(device), reference.timing(device)
    return "VALID" if all(t is not None and t.valid for t in timings) else "INVALID"


def to_csv(table: list[Row]) -> str:
    """Return the rows as CSV text with a header; absent values are empty.

    Columns are those that some row has: what only other tasks have is absent.
    """
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in table for name in row))
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def over_seeds(table: list[Row], metrics: tuple[str, ...]) -> list[Row]:
    """Summarise candidates that were run with several seeds.

    Returns
    -------
    One row per data, model, recipe and device with at least two seeds: ``seeds`` (n), ``verdicts``
    (verdict -> n) and for each metric ``{mean, min, max, n}`` over the seeds that have it. Timings
    that are not VALID are left out of the latency means.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in table:
        groups.setdefault(tuple(row[k] for k in ("data", "model", "recipe", "device")), []).append(
            row
        )
    summaries = []
    for (data, model, recipe, device), members in groups.items():
        if len(members) < 2:
            continue
        verdicts: dict[str, int] = {}
        for member in members:
            verdicts[member["verdict"]] = verdicts.get(member["verdict"], 0) + 1
        summary: Row = {
            "data": data, "model": model, "recipe": recipe, "device": device,
            "seeds": len(members), "verdicts": verdicts,
        }  # fmt: skip
        for name in metrics:
            usable = [m for m in members if not name.endswith("_ms") or m["timing"] == "VALID"]
            values = [m[name] for m in usable if m[name] is not None]
            summary[name] = {
                "mean": sum(values) / len(values) if values else None,
                "min": min(values, default=None),
                "max": max(values, default=None),
                "n": len(values),
            }
        summaries.append(summary)
    return summaries
