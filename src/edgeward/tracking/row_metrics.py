"""What a finished stage contributes to its candidate's row, read from the stage's own outputs."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeward.core.errors import UserError
from edgeward.core.io import read_json, sha256
from edgeward.records.safety import Safety, Verdict
from edgeward.tasks.base import task

VERDICT_CODE = {"pass": 1.0, "inconclusive": 0.0, "fail": -1.0}
HOST = "host"
HEADLINE = "EDGEWARD_HEADLINE_DEVICE"  # environment variable: the first device of the sweep
MODEL = "../export/model.onnx"  # as seen from the folder of `assess`
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AssessedModel:
    """The file that was assessed, and what speaks for or against it.

    Attributes
    ----------
    path : from the folder of `assess`. evidence : name -> text.
    """

    path: str
    sha256: str
    verdict: str
    evidence: dict[str, str]


@dataclass(frozen=True)
class RowMetrics:
    """What goes to the run of the candidate: numbers and tags; of `assess` also the file that was assessed.

    A stage whose outputs cannot be read adds nothing but a `problem`, which its run shows: the computation is
    done and tracking must not undo it.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    model: AssessedModel | None = None
    problem: str | None = None

    @classmethod
    def read(cls, content: dict[str, Any]) -> RowMetrics:
        """Return what `dataclasses.asdict` has made of one."""
        model = content["model"]
        return cls(**content | {"model": AssessedModel(**model) if model else None})


def gather(stage: str, folder: Path, device: str | None) -> RowMetrics:
    """Read what a finished stage adds to its candidate's row, as far as it can be read."""
    readers = {"export": _export, "profile": _profile, "assess": _assess}
    if stage not in readers:
        return RowMetrics()
    try:
        return readers[stage](Path(folder), device or HOST)
    except (UserError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        logger.warning("%s: the row of the candidate lacks %s: %r", folder, stage, error)
        return RowMetrics(problem=f"{stage}: {error!r}"[:500])


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in values.items() if v is not None and math.isfinite(v)}


def _export(folder: Path, _: str) -> RowMetrics:
    return RowMetrics({"file_mb": (folder / "model.onnx").stat().st_size / 1e6})


def _profile(folder: Path, device: str) -> RowMetrics:
    profile = read_json(folder / f"{device}.json")
    first = device == os.environ.get(HEADLINE, HOST)
    prefix = "" if first else f"{device}/"
    if profile.get("refused"):
        return RowMetrics(tags={f"{prefix}profile_verdict": "REFUSED"})
    headline = profile["settings"][0]
    latency = headline["latency_ms"]
    row = {
        f"{prefix}latency_p50_ms": latency["p50"]["estimate"],
        f"{prefix}latency_p90_ms": latency["p90"]["estimate"],
        f"{prefix}peak_memory_mb": headline["peak_memory_mb"],
    }
    tags = {f"{prefix}profile_verdict": str(headline["verdict"])}
    return RowMetrics(_numbers(row), tags | ({"headline_device": device} if first else {}))


def _assess(folder: Path, _: str) -> RowMetrics:
    safety, verdict = (
        Safety.read(folder / "safety.json"),
        Verdict.read(folder / "verdict.json"),
    )
    primary = task(safety.task, str(folder / "safety.json")).primary
    row = {name: found.estimate for name, found in safety.metrics.items()}
    outcome = verdict.verdict
    if outcome in VERDICT_CODE:
        row["verdict_code"] = VERDICT_CODE[outcome]
    evidence: dict[str, str] = {"verdict": outcome}
    for name, change in verdict.differences.items():
        if not change.bounded:
            continue
        evidence[f"{name}_difference"] = "{:+.4f} [{:+.4f}, {:+.4f}]".format(*change)
        if name == primary:
            row[f"{name}_difference"] = change.estimate
    reasons = "; ".join(verdict.reasons)[:4000]
    return RowMetrics(
        _numbers(row),
        {"verdict": outcome, "verdict_reasons": reasons},
        AssessedModel(MODEL, sha256(folder / MODEL), outcome, evidence),
    )
