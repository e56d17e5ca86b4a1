"""Stage ``profile``: how fast, how large and how much in INT8 a model runs on a device."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from edgeward.core.errors import UserError
from edgeward.core.io import sha256
from edgeward.core.plugins import load
from edgeward.profiling import ceilings as ceilings_file
from edgeward.profiling import parity
from edgeward.profiling.config import ProfileConfig
from edgeward.profiling.explain.explanation import explain
from edgeward.profiling.measuring import Bench, not_measured
from edgeward.profiling.transport import Device, Refused, open_device
from edgeward.records.ceilings import Ceilings
from edgeward.records.profile import (
    Agent,
    Interval,
    ModelFacts,
    Operators,
    Profile,
    Setting,
)
from edgeward.runtimes.base import REFERENCE, GraphFacts
from edgeward.runtimes.graph import read_graph

log = logging.getLogger(__name__)


def request_for(cfg: ProfileConfig, metadata: dict[str, str]) -> dict[str, Any]:
    """Return what all requests about models have in common, but the models.

    Parameters
    ----------
    metadata : of the model file; the stage `export` writes ``input_range`` into it.
    """
    return {
        "engine": cfg.engine.model_dump(),
        "affinity": cfg.affinity,
        "batch": cfg.batch,
        "seed": cfg.seed,
        "input_range": json.loads(metadata.get("input_range", "[0, 255]")),
    }


def _bench(
    cfg: ProfileConfig, device: Device, model: Path, shipped: Path, facts: GraphFacts
) -> Bench:
    common = request_for(cfg, facts.metadata)
    low, high = common["input_range"]
    shape = tuple(facts.input_shape[1:])
    inputs = parity.images(cfg.parity.images, shape, (low, high), cfg.seed)
    reference, moved = parity.reference_logits(shipped, inputs), None
    if facts.precision == "int8":
        perturbation = cfg.parity.int8.perturbation
        moved = parity.sensitivity(shipped, inputs, reference, perturbation)
    return Bench(
        cfg=cfg,
        device=device,
        request={"model": str(model.resolve()), "sha256": sha256(model), **common},
        inputs=inputs,
        reference=reference,
        precision=facts.precision,
        sensitivity=moved,
        exclusive=json.loads(facts.metadata.get("exclusive", "true")),
    )


def _measured(
    bench: Bench, facts: GraphFacts, best: Ceilings | None
) -> tuple[dict[str, int], dict[str, Any]]:
    """Put all questions; return the executed operators, and what a profile holds about the answers."""
    cfg = bench.cfg
    # First, since some networks run more kernels than the engine can record; better to know that at once.
    kernels = bench.ask("operators", threads=cfg.first_threads, runs=cfg.operator_runs)
    settings: list[Setting] = []
    answers: list[dict[str, Any]] = []
    for threads in cfg.threads:
        setting, answer = bench.setting(threads)
        if any(setting.threads == other.threads for other in settings):
            continue
        settings.append(setting)
        answers.append(answer)
    throughput = [bench.throughput(batch) for batch in cfg.throughput.batches]
    cold_start = bench.cold_start()
    energy = bench.energy()
    sustained = bench.sustained()  # last: it leaves the device warm
    executed = Counter(kernel["operator"] for kernel in kernels["kernels"])
    where = "config/profile/ (key 'engine.name')"
    names = load("edgeward.runtimes", cfg.engine.name, "kernels", where).NAMES
    median_ms = settings[0].latency_ms.p50.estimate
    try:
        explanation = explain(
            kernels, facts, names, median_ms, best.used if best else None, cfg.explain
        )
    except (ArithmeticError, LookupError, ValueError) as error:
        raise UserError(
            f"device '{cfg.name}': the kernels that it tells of do not have the tensors of their operators ({error!r})."
        ) from error
    return dict(sorted(executed.items())), {
        "host": answers[0]["host"],
        "engine": {**answers[0]["engine"], "providers": answers[0]["providers"]},
        "settings": settings,
        "int8_mac_share": explanation.int8_mac_share,
        "throughput": throughput,
        "cold_start": cold_start,
        "energy": energy,
        "explanation": explanation,
        **({"sustained": sustained} if sustained else {}),
    }


def _refused(bench: Bench, reason: str) -> dict[str, Any]:
    """Return what a profile holds about a model that the engine cannot load."""
    answer = bench.ask("describe", threads=bench.cfg.first_threads)
    return {
        "host": answer["host"],
        "engine": {**answer["engine"], "providers": bench.cfg.engine.asked_for},
        "refused": reason,
        "settings": [],
        "int8_mac_share": None,
        "throughput": [],
        "cold_start": None,
        "energy": not_measured("the engine refuses the model"),
        "explanation": None,
    }


def _metrics(profile: Profile) -> dict[str, float]:
    """Flatten what one compares: the first setting, and the others with their thread count."""
    model, explanation = profile.model, profile.explanation
    metrics: dict[str, float] = {
        "file_mb": model.file_bytes / 1e6,
        "parameters": model.parameters,
        "macs": model.macs,
    }
    if explanation is None:
        return {**metrics, "refused": 1.0}
    metrics["bytes_moved"] = explanation.bytes_moved
    if explanation.roofline_ms is not None:
        metrics["roofline_ms"] = explanation.roofline_ms
    if profile.int8_mac_share is not None:
        metrics["int8_mac_share"] = profile.int8_mac_share
    for position, setting in enumerate(profile.settings):
        suffix = "" if position == 0 else f"_{setting.threads}threads"
        for name in ("load_ms", "peak_memory_mb", "throughput_per_s"):
            metrics[name + suffix] = getattr(setting, name)
        metrics["valid" + suffix] = float(setting.verdict == "VALID")
        for percent in ("p50", "p90"):
            record: Interval = getattr(setting.latency_ms, percent)
            metrics[f"latency_{percent}_ms{suffix}"] = record.estimate
            for end in ("low", "high"):
                if (value := getattr(record, end)) is not None:
                    metrics[f"latency_{percent}_ms_{end}{suffix}"] = value
    for offline in profile.throughput:
        name = f"images_per_s_{offline.threads}threads_batch{offline.batch}"
        metrics[name] = offline.images_per_s.estimate
    if profile.cold_start:
        metrics["cold_start_ms"] = profile.cold_start.total_ms.median
    if profile.energy.status == "measured":
        metrics["energy_valid"] = float(profile.energy.verdict == "VALID")
        metrics["energy_gross_mj"] = profile.energy.gross_mj.median
        metrics["energy_net_mj"] = profile.energy.net_mj.median
    if run := profile.sustained:
        metrics["sustained_ratio"] = run.ratio.estimate
        metrics["sustained_valid"] = float(run.verdict == "VALID")
        metrics["sustained_holds"] = float(run.answer == "holds")
    return metrics


def run(
    cfg: ProfileConfig,
    *,
    model: Path,
    out: Path,
    ceilings: Path | None = None,
    shipped: Path | None = None,
    refused: str | None = None,
) -> dict[str, float]:
    """Profile a model on a device.

    Parameters
    ----------
    cfg : the device and how to measure on it.
    model : a file that the engine takes, with one image input, float32 (batch, c, h, w) or (batch, c, d, h, w).
    out : the JSON to write, ``{device}.json``.
    ceilings : the device's, as `edgeward.profiling.ceilings` wrote them; None leaves the roofline
        out of the explanation.
    shipped : the ONNX file of the same network, whose logits the reference engine gives; None: `model`.
    refused : why there is no file for this engine; then `model` is the one that ships, and nothing is measured.

    Returns
    -------
    Metrics of the first thread setting, e.g. ``latency_p50_ms``; those of the n-th with the suffix
    ``_{threads}threads``. MB are 10^6 bytes.

    Raises
    ------
    UserError
        If the model cannot be read or run, a provider is missing, the deadline passes, or the
        ceilings are those of another set-up. A noisy measurement is not an error: it is written
        with the verdict INVALID and the reasons. Neither is a model that the engine cannot load: it
        is written as refused, with what the engine says.
    """
    if not model.is_file():
        raise UserError(f"{model} does not exist; the stage `export` writes it.")
    facts = read_graph(REFERENCE if refused else cfg.engine.name, model, cfg.batch)
    best = None if ceilings is None else ceilings_file.read(ceilings, cfg)
    with open_device(cfg) as device:
        bench = _bench(cfg, device, model, shipped or model, facts)
        try:
            if refused:
                raise Refused(refused, refused)
            executed, found = _measured(bench, facts, best)
        except Refused as error:
            log.warning("%s refuses %s: %s", cfg.name, model, error.reason)
            executed, found = {}, _refused(bench, error.reason)
        emulated, agent = device.emulated, Agent(sha256=device.agent_sha256)
    profile = Profile(
        format="edgeward-profile/2",
        device=cfg.name,
        emulated=emulated,
        agent=agent,
        config={**cfg.model_dump(mode="json"), "transport": {"kind": cfg.transport.kind}},
        model=ModelFacts(
            file_bytes=model.stat().st_size,
            sha256=bench.request["sha256"],
            parameters=facts.parameters,
            macs=facts.macs,
            macs_not_counted=facts.uncounted,
            input_shape=facts.input_shape,
            precision=facts.precision,
        ),
        operators=Operators(exported=facts.operators, executed=executed),
        **found,
    )
    profile.write(out)
    return _metrics(profile)
