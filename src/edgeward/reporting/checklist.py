"""The deployment checklist of one candidate, after arXiv 2602.00910.

The paper asks for a deployment-first report: device and inference engine, precision and hardware
setup, median and tail latency with energy per inference, and safety as AUC, per-class sensitivity
and ECE before and after compression. It also criticises that operator fusion goes unreported. This
module gathers exactly that from a candidate's files and adds verdict, provenance and what is left
for people to sign. It quotes nothing of the paper's own table.
"""

from __future__ import annotations

from typing import Any

import edgeward
from edgeward.core.errors import UserError
from edgeward.core.io import sha256
from edgeward.reporting.comparison import Ratios, rare_cases, speed
from edgeward.reporting.load import Candidate, Timing, reference_of
from edgeward.reporting.numbers import Interval, interval
from edgeward.reporting.tasks import length_unit

SCHEMA = "edgeward-checklist/1"
PERCENTILES = ("p50", "p90", "p95", "p99")

BUILT = (
    "recipe",
    "steps",
    "precision",
    "backend",
    "scheme",
    "keep_float",
    "quantized_parameter_share",
)

QUESTIONS = (
    "Are the test images like those of the intended site: population, cameras, prevalence, image quality?",
    "Is the reference model itself good enough for the intended use, class by class?",
    "Were the margins chosen by those who answer for the consequences, before the results were seen?",
    "Are there groups of patients (age, sex, skin type, site) for whom the result differs? "
    "The tool has not looked.",
    "Is the measured device, with its power supply and its other load, the one that will be used?",
    "Do the licences of data, model and software allow the intended use?",
    "Which regulation applies, and who keeps watch over the model after it is installed?",
)


def record(value: Interval) -> dict[str, Any]:
    """Return an interval as a JSON record."""
    content: dict[str, Any] = {"estimate": value.estimate, "low": value.low, "high": value.high}
    return content if value.n is None else content | {"n": value.n}


def checklist(candidate: Candidate, candidates: list[Candidate], paired: Ratios) -> dict[str, Any]:
    """Return the checklist of a candidate as a JSON-able dictionary.

    Parameters
    ----------
    candidate : the candidate.
    candidates : all candidates of the sweep, to find its reference.
    paired : of `edgeward.reporting.interleaved.own_reference`.

    Raises
    ------
    UserError
        If the profiled model is not the model that was exported.
    """
    reference = reference_of(candidate, candidates)
    digest = sha256(candidate.onnx)
    for device, profile in candidate.profiles.items():
        measured = profile["model"].get("sha256")
        if measured != digest:
            raise UserError(
                f"{candidate.key}: {device} was profiled with a model of SHA-256 {measured}, but "
                f"{candidate.onnx} has {digest}. Run profile again for this candidate."
            )
    return {
        "schema": SCHEMA,
        "after": "arXiv:2602.00910",
        "candidate": {
            "data": candidate.data,
            "model": candidate.model,
            "seed": candidate.seed,
            "recipe": candidate.recipe,
            "precision": candidate.built["precision"],
        },
        "verdict": _verdict(candidate),
        "deployment": [_device(candidate, d, candidates, paired) for d in candidate.profiles],
        "safety": _safety(candidate, reference),
        "provenance": _provenance(candidate, digest),
        "sign_off": {
            "open_items": [*_open_items(candidate, reference), *QUESTIONS],
            "signatures": [
                {"role": role, "name": None, "date": None, "decision": None}
                for role in ("Clinical lead", "Engineering lead", "Quality / regulatory")
            ],
        },
    }


def _verdict(candidate: Candidate) -> dict[str, Any]:
    verdict = candidate.verdict
    return {
        "outcome": candidate.outcome,
        "reference": verdict["reference"],
        "reasons": list(verdict["reasons"]),
        "endpoints": verdict["endpoints"],
        "churn": None if verdict.get("churn") is None else record(interval(verdict["churn"])),
    }


def _device(
    candidate: Candidate, device: str, candidates: list[Candidate], paired: Ratios
) -> dict[str, Any]:
    profile = candidate.profiles[device]
    gain = speed(candidate, device, candidates, paired)
    engine, model = profile["engine"], profile["model"]
    return {
        "device": device,
        "host": profile.get("host"),
        "engine": {"name": engine.get("name"), "version": engine.get("version")},
        "execution_providers": engine.get("providers"),
        "engine_settings": profile.get("config"),
        "precision": model.get("precision", candidate.built["precision"]),
        "file_bytes": model.get("file_bytes"),
        "parameters": model.get("parameters"),
        "macs": model.get("macs"),
        "input_shape": model.get("input_shape"),
        "int8_mac_share": interval(profile.get("int8_mac_share")).estimate,
        "operators": profile.get("operators"),
        "energy": profile.get("energy")
        or {"status": "not measured", "reason": "the profile holds no entry for energy"},
        "refused": candidate.refusal(device),
        "speedup": None
        if gain is None
        else {**record(gain.factor), "in_turns": gain.in_turns, "valid": gain.valid},
        "settings": [_setting(t) for t in candidate.timings if t.device == device],
    }


def _setting(timing: Timing) -> dict[str, Any]:
    setting = timing.setting
    return {
        **{key: setting.get(key) for key in ("threads", "batch", "resolution", "warmup", "n")},
        "duration_s": setting.get("duration_s"),
        "latency_ms": {
            **{name: record(timing.latency(name)) for name in PERCENTILES},
            **{name: timing.latency(name).estimate for name in ("mean", "min", "max")},
        },
        "throughput_per_s": interval(setting.get("throughput_per_s")).estimate,
        "load_ms": record(interval(setting.get("load_ms"))),
        "peak_memory_mb": record(interval(setting.get("peak_memory_mb"))),
        "timing": {"verdict": setting.get("verdict"), "reasons": setting.get("reasons", [])},
        "conditions": setting.get("conditions"),
    }


def _safety(candidate: Candidate, reference: Candidate | None) -> dict[str, Any]:
    safety, task = candidate.safety, candidate.task
    sizes = ("lesions", "small_lesions") if task.segments else ()
    return {
        "task": task.name,
        "n": safety["n"],
        "confidence_level": safety.get("confidence_level"),
        "rare_classes": safety["rare_classes"],
        **(
            {"length_unit": length_unit(candidate.card)}
            if task.segments
            else {"n_rare": rare_cases(candidate)}
        ),
        **{m.name: record(candidate.metric(m.name)) for m in task.quality},
        "per_class": [
            {
                "class": entry["class"],
                "n": entry["n"],
                "rare": bool(entry.get("rare")),
                **{name: entry.get(name) for name in sizes},
                **{m.name: record(interval(entry.get(m.name))) for m in task.per_class},
            }
            for entry in safety["per_class"]
        ],
        "calibration": {m.name: record(candidate.metric(m.name)) for m in task.calibration},
        "ece_before_after": _before_after(candidate, reference, "ece"),
        **(
            {"boundary_ece_before_after": _before_after(candidate, reference, "boundary_ece")}
            if task.segments
            else {}
        ),
    }


def _before_after(
    candidate: Candidate, reference: Candidate | None, metric: str
) -> dict[str, Any] | None:
    """Return an ECE of reference and candidate, or None for a reference (nothing was compressed)."""
    if candidate.is_reference:
        return None
    before = reference.metric(metric) if reference else Interval()
    if not before.known:
        for endpoint in candidate.verdict["endpoints"]:
            if endpoint.get("metric") == metric:
                before = interval(endpoint.get("reference"))
    return {
        "before": record(before),
        "after": record(candidate.metric(metric)),
        "difference": record(candidate.difference(metric)),
    }


def _provenance(candidate: Candidate, digest: str) -> dict[str, Any]:
    built, card = candidate.built, candidate.card
    return {
        "edgeward": edgeward.__version__,
        "versions": built.get("versions"),
        "model_sha256": digest,
        "recipe": {key: built[key] for key in BUILT if key in built},
        "calibration": built.get("calibration"),
        "data": {
            "name": card["name"],
            **{key: card.get(key) for key in ("source", "licence", "hashes", "leakage")},
        },
        "seeds": {
            "training": candidate.seed,
            "data": card.get("seed"),
            "bootstrap": (candidate.verdict.get("bootstrap") or {}).get("seed"),
        },
        "bootstrap": candidate.verdict.get("bootstrap"),
        "parity": candidate.parity,
    }


def _open_items(candidate: Candidate, reference: Candidate | None) -> list[str]:
    """List what the candidate's own files leave open."""
    items = []
    if candidate.outcome == "fail":
        items.append("The verdict is fail: the model is shown to be worse than its reference.")
    if candidate.outcome == "inconclusive":
        items.append("The verdict is inconclusive: collect more cases, then assess again.")
    if not candidate.is_reference and reference is None:
        items.append("The reference is not part of this sweep: speed and size have no counterpart.")
    for timing in candidate.timings:
        if not timing.valid:
            why = "; ".join(timing.setting.get("reasons", [])) or "no reason recorded"
            items.append(f"Measure again: the timing ({timing.conditions}) is INVALID: {why}.")
    if not candidate.profiles:
        items.append("Not profiled on any device.")
    items += [
        f"The engine of {device} refuses the model: {reason}"
        for device, reason in candidate.refusals.items()
    ]
    for device, profile in candidate.profiles.items():
        energy = profile.get("energy") or {}
        if energy.get("status", "not measured") == "not measured":
            items.append(
                f"Energy per inference on {device} is not measured: "
                f"{energy.get('reason', 'no reason recorded')}."
            )
    leakage = candidate.card.get("leakage")
    if leakage is None:
        items.append("No leakage audit is recorded for the data.")
    elif leakage.get("findings"):
        items.append("The leakage audit of the data has findings: judge them.")
    return items
