"""Stage ``profile``: how fast, how large and how much in INT8 a model runs on a device."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.core.errors import UserError
from edgeward.core.io import sha256, write_json
from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.graph import GraphFacts, int8_macs, read_graph
from edgeward.profiling.statistics import autocorrelation, judge, latency
from edgeward.profiling.transport import Device, open_device

log = logging.getLogger(__name__)

SCHEMA = "edgeward-profile/1"
EMULATED = "emulated: timings say nothing about a device"


def _request(cfg: ProfileConfig, model: Path, facts: GraphFacts) -> dict[str, Any]:
    return {
        "model": str(model.resolve()),
        "sha256": sha256(model),
        "providers": cfg.engine.providers,
        "spinning": cfg.engine.spinning,
        "batch": cfg.batch,
        "seed": cfg.seed,
        "input_range": json.loads(facts.metadata.get("input_range", "[0, 255]")),
    }


def _measure(
    cfg: ProfileConfig, device: Device, request: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Time one setting once; return its record and the agent's answer."""
    answer = device.ask(
        {
            **request,
            "task": "time",
            "warmup": cfg.warmup.model_dump(),
            "min_duration_s": cfg.min_duration_s,
            "min_count": cfg.min_count,
            "max_duration_s": cfg.max_duration_s,
        }
    )
    samples = np.array(answer["samples_ns"], dtype=np.float64) / 1e6
    duration_s = answer["duration_ns"] / 1e9
    summary = latency(samples, cfg.percentiles, cfg.confidence)
    conditions = answer["conditions"]
    reasons = judge(samples, summary, conditions, duration_s, cfg)
    if device.emulated:
        reasons.insert(0, EMULATED)
    setting = {
        "threads": answer["threads"],
        "batch": cfg.batch,
        "resolution": answer["resolution"],
        "load_ms": answer["load_ns"] / 1e6,
        "first_ms": answer["first_ns"] / 1e6,
        "warmup": answer["warmups"],
        "n": len(samples),
        "duration_s": duration_s,
        "latency_ms": summary,
        "throughput_per_s": len(samples) * cfg.batch / duration_s,
        "peak_memory_mb": max(0, answer["peak_bytes"] - answer["baseline_bytes"]) / 1e6,
        "baseline_memory_mb": answer["baseline_bytes"] / 1e6,
        "peak_memory_exact": answer["peak_reset"],
        "verdict": "INVALID" if reasons else "VALID",
        "reasons": reasons,
        "conditions": {
            **conditions,
            "timer_ns": answer["timer_ns"],
            "autocorrelation": autocorrelation(samples),
            "spinning": cfg.engine.spinning,
        },
    }
    return setting, answer


def _setting(
    cfg: ProfileConfig, device: Device, request: dict[str, Any], threads: int | str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Time one setting until it is valid or the attempts are used up; the last one counts."""
    earlier: list[list[str]] = []
    while True:
        setting, answer = _measure(
            cfg, device, {**request, "threads": 0 if threads == "all" else threads}
        )
        record = setting["latency_ms"]["p50"]
        log.info(
            "%s, %d thread(s): p50 %.3f ms, p90 %.3f ms, n %d, %s%s",
            cfg.name,
            setting["threads"],
            record["estimate"],
            setting["latency_ms"]["p90"]["estimate"],
            setting["n"],
            setting["verdict"],
            "".join(f"; {reason}" for reason in setting["reasons"]),
        )
        if setting["verdict"] == "VALID" or device.emulated or len(earlier) + 1 == cfg.attempts:
            return {**setting, "earlier_attempts": earlier}, answer
        earlier.append(setting["reasons"])


def _metrics(profile: dict[str, Any]) -> dict[str, float]:
    """Flatten what one compares: the first setting, and the others with their thread count."""
    model = profile["model"]
    metrics: dict[str, float] = {
        "file_mb": model["file_bytes"] / 1e6,
        "parameters": model["parameters"],
        "macs": model["macs"],
    }
    if profile["int8_mac_share"] is not None:
        metrics["int8_mac_share"] = profile["int8_mac_share"]
    for position, setting in enumerate(profile["settings"]):
        suffix = "" if position == 0 else f"_{setting['threads']}threads"
        for name in ("load_ms", "peak_memory_mb", "throughput_per_s"):
            metrics[name + suffix] = setting[name]
        metrics["valid" + suffix] = float(setting["verdict"] == "VALID")
        for percent in ("p50", "p90"):
            record = setting["latency_ms"][percent]
            metrics[f"latency_{percent}_ms{suffix}"] = record["estimate"]
            for end in ("low", "high"):
                if record[end] is not None:
                    metrics[f"latency_{percent}_ms_{end}{suffix}"] = record[end]
    return metrics


def run(cfg: ProfileConfig, *, model: Path, out: Path) -> dict[str, float]:
    """Profile a model on a device.

    Parameters
    ----------
    cfg : the device and how to measure on it.
    model : an ONNX file with one image input, float32 (batch, c, h, w).
    out : the JSON to write, ``{device}.json``.

    Returns
    -------
    Metrics of the first thread setting, e.g. ``latency_p50_ms``; those of the n-th with the suffix
    ``_{threads}threads``. MB are 10^6 bytes.

    Raises
    ------
    UserError
        If the model cannot be read or run, a provider is missing, or the deadline passes. A noisy
        measurement is not an error: it is written with the verdict INVALID and the reasons.
    """
    if not model.is_file():
        raise UserError(f"{model} does not exist; the stage `export` writes it.")
    facts = read_graph(model, cfg.batch)
    request = _request(cfg, model, facts)
    settings: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    with open_device(cfg) as device:
        emulated = device.emulated
        for threads in cfg.threads:
            setting, answer = _setting(cfg, device, request, threads)
            if any(setting["threads"] == other["threads"] for other in settings):
                continue
            settings.append(setting)
            answers.append(answer)
        kernels = device.ask(
            {**request, "task": "operators", "threads": 1, "runs": cfg.operator_runs}
        )
    executed = Counter(kernel["operator"] for kernel in kernels["kernels"])
    share = int8_macs(kernels["kernels"]) / (facts.macs * cfg.batch) if facts.macs else None
    profile = {
        "schema": SCHEMA,
        "device": cfg.name,
        "emulated": emulated,
        "host": answers[0]["host"],
        "engine": {**answers[0]["engine"], "providers": answers[0]["providers"]},
        "config": {**cfg.model_dump(), "transport": {"kind": cfg.transport.kind}},
        "model": {
            "file_bytes": model.stat().st_size,
            "sha256": request["sha256"],
            "parameters": facts.parameters,
            "macs": facts.macs,
            "macs_not_counted": facts.uncounted,
            "input_shape": facts.input_shape,
            "precision": facts.precision,
        },
        "settings": settings,
        "operators": {"exported": facts.operators, "executed": dict(sorted(executed.items()))},
        "int8_mac_share": share,
        "energy": {
            "status": "not measured",
            "reason": "no power counter is configured for this device; an estimate is not a measurement",
        },
    }
    write_json(out, profile)
    return _metrics(profile)
