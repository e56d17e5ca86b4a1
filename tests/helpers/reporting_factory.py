"""Builds the files of candidates exactly after docs/architecture.md, from simulated predictions.

Everything that can be computed from the simulated labels and predictions is (confusion, recall,
Wilson intervals, reliability), so the files hang together as those of a real run do.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgeward.core.io import write_json
from edgeward.pipeline.paths import Prepare, ResultPaths
from edgeward.records.card import Card
from edgeward.records.parity import Parity
from edgeward.records.recipe import Recipe
from edgeward.records.safety import Safety, Verdict
from edgeward.reporting import stage

CLASSES = ["nv", "mel", "bkl", "bcc", "akiec", "vasc", "df"]
PRIOR = np.array([0.67, 0.111, 0.11, 0.051, 0.033, 0.0142, 0.0115])
NOTHING = {"estimate": None, "low": None, "high": None}
MARGINS = {"recall": 0.05, "balanced_accuracy": 0.03, "auc_macro": 0.01, "ece": 0.02}


@dataclass
class Spec:
    """What one simulated candidate is like."""

    model: str = "mobileone_s0"
    recipe: str = "fp32"
    seed: int = 0
    data: str = "phantom"
    verdict: str = "reference"
    p50: float = 2.4
    skill: float = 1.9
    loss: dict[str, float] = field(default_factory=dict)
    valid: bool = True
    devices: tuple[str, ...] = ("host",)
    classes: list[str] = field(default_factory=lambda: list(CLASSES))
    rare: list[str] = field(default_factory=lambda: ["vasc", "df"])
    n: int = 3000
    leaks: list[str] = field(default_factory=list)
    macs: int = 22_500_000
    parameters: int = 1_060_679
    bytes_moved: int = 3_200_000


def wilson(k: float, n: int, z: float = 1.96) -> dict[str, Any]:
    """Wilson's score interval as an interval record."""
    if n == 0:
        return {"estimate": None, "low": None, "high": None, "n": 0, "method": "wilson"}
    p, d = k / n, 1 + z * z / n
    mid, half = (p + z * z / 2 / n) / d, z / d * np.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    return {"estimate": p, "low": max(0.0, mid - half), "high": min(1.0, mid + half), "n": n,
            "method": "wilson"}  # fmt: skip


def around(estimate: float, half: float) -> dict[str, float]:
    """An interval record of half width `half`."""
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half}


def timed(estimate: float, half: float) -> dict[str, Any]:
    """An interval record of a latency."""
    return {**around(estimate, half), "n": 1873, "method": "order statistics, 0.95"}


def spread(median: float) -> dict[str, Any]:
    """A few values around a median."""
    return {"median": median, "min": 0.9 * median, "max": 1.1 * median, "n": 3}


def _predict(spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and probabilities (n, c)."""
    c = len(spec.classes)
    prior = PRIOR[:c] / PRIOR[:c].sum() if c <= len(PRIOR) else np.full(c, 1 / c)
    rng = np.random.default_rng(sum(map(ord, spec.data)))
    labels = rng.choice(c, size=spec.n, p=prior)
    rng = np.random.default_rng(sum(map(ord, spec.model)) + spec.seed)
    logits = rng.normal(0, 1, (spec.n, c)) + 0.35 * np.log(prior)
    logits[np.arange(spec.n), labels] += spec.skill
    for name, lost in spec.loss.items():
        hit = (labels == spec.classes.index(name)) & (rng.random(spec.n) < lost)
        logits[hit, 0] += 4
    logits += 0.05 * np.random.default_rng(len(spec.recipe)).normal(size=logits.shape)
    exp = np.exp(1.3 * (logits - logits.max(1, keepdims=True)))
    return labels, exp / exp.sum(1, keepdims=True)


def _auc(score: np.ndarray, positive: np.ndarray) -> float:
    rank = np.argsort(np.argsort(score)) + 1
    k = int(positive.sum())
    return float((rank[positive].sum() - k * (k + 1) / 2) / (k * (len(score) - k)))


def _safety(spec: Spec) -> dict[str, Any]:
    labels, probs = _predict(spec)
    c, decision = len(spec.classes), probs.argmax(1)
    confusion = np.zeros((c, c), dtype=int)
    np.add.at(confusion, (labels, decision), 1)
    confidence, hit = probs.max(1), decision == labels
    per_class: list[dict[str, Any]] = []
    for i, name in enumerate(spec.classes):
        n, true = int((labels == i).sum()), int(confusion[i, i])
        negatives = spec.n - n
        per_class.append({
            "class": name, "n": n, "n_groups": int(n * 0.8), "rare": name in spec.rare,
            "metrics": {
                "recall": wilson(true, n),
                "specificity": wilson(negatives - (confusion[:, i].sum() - true), negatives),
                "auc": around(_auc(probs[:, i], labels == i), 0.01) if n else NOTHING,
                "classwise_ece": around(
                    abs(float(probs[:, i].mean() - (labels == i).mean())), 0.004
                ),
            },
        })  # fmt: skip
    bins = np.array_split(np.argsort(confidence, kind="stable"), 15)
    accuracy = [wilson(int(hit[b].sum()), len(b)) for b in bins]
    gaps = [abs(float(confidence[b].mean() - hit[b].mean())) for b in bins]
    recall = [e["metrics"]["recall"]["estimate"] or 0.0 for e in per_class]
    rare = [r for r, e in zip(recall, per_class, strict=True) if e["rare"]]
    n_rare = sum(e["n"] for e in per_class if e["rare"])
    auc = float(np.mean([a for e in per_class if (a := e["metrics"]["auc"]["estimate"])]))
    ece = float(np.mean(gaps))
    return {
        "schema": Safety.FORMAT,
        "task": "multiclass",
        "n": {"test": spec.n, "val": spec.n // 2, "groups": int(spec.n * 0.74), "rare": n_rare},
        "classes": spec.classes,
        "rare_classes": spec.rare,
        "absent_classes": [],
        "confidence_level": 0.95,
        "metrics": {
            "auc_macro": around(auc, 0.008),
            "accuracy": wilson(int(hit.sum()), spec.n),
            "balanced_accuracy": around(float(np.mean(recall)), 0.02),
            "rare_recall": {**around(float(np.mean(rare)), 0.09), "n": n_rare} if rare else NOTHING,
            "nll": around(0.8, 0.02), "brier": around(0.35, 0.01),
            "ece": around(ece, 0.008),
            "ece_15bin": around(ece + 0.002, 0.008),
            "smooth_ece": around(ece * 0.9, 0.008),
            "ece_temperature_scaled": around(0.012, 0.005),
        },
        "per_class": per_class,
        "reliability": {"all": {
            "confidence": [float(confidence[b].mean()) for b in bins],
            "accuracy": [a["estimate"] for a in accuracy],
            "low": [a["low"] for a in accuracy],
            "high": [a["high"] for a in accuracy],
            "count": [len(b) for b in bins],
        }},
        "confusion": confusion.tolist(),
        "labels": spec.classes,
        "facts": {"temperature": 1.23},
        "logit_shift": [0.0] * c,
        "test_sha256": "d" * 64,
    }  # fmt: skip


def _verdict(spec: Spec, safety: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    bootstrap = {"resamples": 2000, "seed": 0, "unit": "group", "strata": "class", "groups": 2220,
                 "confidence_level": 0.95}  # fmt: skip
    if spec.verdict == "reference":
        return {"schema": Verdict.FORMAT, "reference": spec.recipe, "verdict": "reference",
                "reasons": ["This is fp32, which the others are compared with."], "churn": None,
                "endpoints": [], "differences": {}, "per_class": [], "bootstrap": bootstrap}  # fmt: skip
    before, after = base["metrics"], safety["metrics"]
    differences = {
        name: around(
            (after[name]["estimate"] or 0) - (before[name]["estimate"] or 0),
            0.035 if name == "rare_recall" else 0.006,
        )
        for name in ("auc_macro", "accuracy", "balanced_accuracy", "rare_recall", "ece")
    }
    endpoints, per_class = [], []
    for entry, old in zip(safety["per_class"], base["per_class"], strict=True):
        if entry["n"] == 0:
            continue
        first, second = (e["metrics"]["recall"] for e in (old, entry))
        delta = second["estimate"] - first["estimate"]
        record = {**around(delta, 1.4 / np.sqrt(entry["n"]) * 0.25), "n": entry["n"]}
        differences[f"recall_{entry['class']}"] = record
        lost = max(0, round(-delta * entry["n"])) + 1
        per_class.append({"class": entry["class"], "n": entry["n"], "gained": 1, "lost": lost,
                          "mcnemar_p": 0.5, "mcnemar_p_holm": 1.0, "difference": record})  # fmt: skip
        if entry["rare"]:
            outcome = "pass" if spec.verdict == "pass" else spec.verdict
            endpoints.append({
                "name": f"recall of {entry['class']}", "metric": f"recall_{entry['class']}",
                "class": entry["class"],
                "margin": MARGINS["recall"], "direction": "higher",
                "reference": first, "compressed": second, "difference": record,
                "n": entry["n"], "n_groups": int(entry["n"] * 0.8), "outcome": outcome,
                "reason": f"recall of {entry['class']}: difference {delta:+.3f}, margin -0.05: {outcome}.",
                "cases_needed": 412 if outcome == "inconclusive" else None,
            })  # fmt: skip
    for metric in ("balanced_accuracy", "auc_macro", "ece"):
        endpoints.append({
            "name": metric, "metric": metric, "class": None, "margin": MARGINS[metric],
            "direction": "lower" if metric == "ece" else "higher",
            "reference": before[metric], "compressed": after[metric],
            "difference": differences[metric], "n": spec.n, "n_groups": int(spec.n * 0.74),
            "outcome": "pass", "reason": f"{metric} within the margin", "cases_needed": None,
        })  # fmt: skip
    said = {
        "pass": [f"All {len(endpoints)} endpoints are within their margins."],
        "fail": [f"fail: {e['reason']}" for e in endpoints if e["outcome"] == "fail"],
        "inconclusive": [f"inconclusive: {e['reason']}" for e in endpoints if e["cases_needed"]],
    }
    return {
        "schema": Verdict.FORMAT,
        "reference": "fp32", "verdict": spec.verdict, "reasons": said[spec.verdict],
        "churn": {**around(0.021, 0.004), "n": spec.n}, "endpoints": endpoints,
        "differences": differences, "per_class": per_class, "bootstrap": bootstrap,
    }  # fmt: skip


def explanation(spec: Spec, p50: float) -> dict[str, Any]:
    """Where the time goes."""
    int8 = spec.recipe != "fp32"
    roofline = 1e-6 * max(spec.macs / 80, spec.bytes_moved / 20)
    product = "QLinearConv" if int8 else "Conv"
    shares = [(product, 35, 0.8), ("ReorderOutput", 2, 0.15), ("Gemm", 1, 0.05)]
    return {
        "threads": 1, "kernels_ms": 1.04 * p50, "measured_ms": p50, "macs": spec.macs,
        "macs_unknown": [], "bytes_moved": spec.bytes_moved, "weight_bytes": 4 * spec.parameters,
        "intensity": spec.macs / spec.bytes_moved, "int8_mac_share": 0.998 if int8 else 0.0,
        "roofline_ms": roofline, "roofline_share": roofline / p50, "layout_changes": 2,
        "fused_share": 0.49,
        "ceilings": {"threads": 1, "fp32_gmac_per_s": 80.0, "int8_gmac_per_s": 290.0,
                     "copy": [{"bytes": 256_000, "gb_per_s": 40.0},
                              {"bytes": 128_000_000, "gb_per_s": 11.0}]},
        "operators": [
            {"operator": name, "inner": False, "kernels": n, "calls": n, "ms": share * p50,
             "share": share, "macs": spec.macs if name == product else 0,
             "bytes_moved": int(share * spec.bytes_moved), "intensity": 7.0,
             "roofline_ms": share * roofline}
            for name, n, share in shares
        ],
        "kernels": [
            {"name": f"{name}_{i}", "operator": name, "inside": None, "calls": 1,
             "us": 1e3 * share * p50 / n, "macs": spec.macs // n if name == product else 0,
             "bytes_moved": spec.bytes_moved // n, "roofline_us": 1e3 * roofline / n,
             "bound_by": "compute"}
            for name, n, share in shares for i in range(n)
        ],
        "signatures": [
            {"name": "fusion_broken", "present": True, "evidence": {"share": 0.15, "threshold": 0.1},
             "text": "2 layout changes take 15 % of the time.", "advice": "Keep one layout."},
            {"name": "memory_bound", "present": False, "evidence": {"share": 0.2, "threshold": 0.5},
             "text": "20 % of the time goes to kernels that the memory bounds.", "advice": ""},
            {"name": "float_islands", "present": None, "evidence": {},
             "text": "The model is not INT8.", "advice": ""},
        ],
    }  # fmt: skip


CONDITIONS = {
    "load_average": 0.1, "own_cpu_s": 5.0, "preempted": 3, "major_faults": 0, "other_cpu_s": 0.1,
    "steal_s": 0.01, "throttled": None, "clock_mhz": [2900.0, 2890.0], "hottest_c": [None, None],
    "cooling": [None, None], "timer_ns": 40.0, "autocorrelation": 0.02,
}  # fmt: skip
PARITY: dict[str, Any] = {"n": 8, "spread": 3.0, "max_abs": 1e-5, "mean_abs": 1e-6, "agreement": 1.0, "limit": 1e-3,
          "decided": None, "passed": True, "reasons": []}  # fmt: skip


def setting(p50: float, *, valid: bool = True, **changed: Any) -> dict[str, Any]:
    """What was measured with one number of threads."""
    return {
        "threads": 1, "batch": 1, "resolution": [64, 64], "load_ms": 61.2, "first_ms": 9.0,
        "warmup": 50, "n": 1873, "duration_s": 5.01, "stopped_at": "half_width",
        "latency_ms": {
            "mean": p50 * 1.03, "min": p50 * 0.93, "max": p50 * 2.2,
            "p50": timed(p50, p50 * 0.01), "p90": timed(p50 * 1.11, p50 * 0.02),
            "p95": timed(p50 * 1.2, p50 * 0.04),
            "p99": {**timed(p50 * 1.5, p50 * 0.2), "high": None},
        },
        "throughput_per_s": 1000 / p50, "peak_memory_mb": 44.9, "baseline_memory_mb": 30.0,
        "peak_memory_exact": True, "parity": PARITY,
        "verdict": "VALID" if valid else "INVALID",
        "reasons": [] if valid else ["steal time 4.1 %: another guest used the machine"],
        "conditions": CONDITIONS, "earlier_attempts": [], **changed,
    }  # fmt: skip


def profile(device: str, settings: list[dict[str, Any]], **changed: Any) -> dict[str, Any]:
    """The record of a model on a device."""
    return {
        "schema": "edgeward-profile/2", "device": device, "emulated": False,
        "host": {"machine": "x86_64", "cpu": "Example CPU", "cores": 2, "cores_usable": 2,
                 "instructions": ["avx2", "avx512_vnni"], "virtual": True, "memory_bytes": None,
                 "system": "Linux 6", "python": "3.12"},
        "engine": {"name": "onnxruntime", "version": "1.31.0", "providers": ["CPUExecutionProvider"]},
        "agent": {"sha256": "e" * 64},
        "config": {"confidence": 0.95, "engine": {"spinning": True},
                   "explain": {"signatures": {"rank_gap": 0.25}}},
        "model": {"file_bytes": 4_300_000, "sha256": "f" * 64, "parameters": 10, "macs": 100,
                  "macs_not_counted": [], "input_shape": [1, 3, 64, 64], "precision": "fp32"},
        "settings": settings,
        "operators": {"exported": {}, "executed": {}},
        "int8_mac_share": 0.0, "throughput": [], "cold_start": None,
        "energy": {"status": "not measured", "reason": "this machine has no energy counter"},
        **changed,
    }  # fmt: skip


def _profile(spec: Spec, device: str, onnx: Path) -> dict[str, Any]:
    int8 = spec.recipe != "fp32"
    base = spec.p50 * (1 if device == "host" else 3.1)
    more: dict[str, Any] = {"valid": spec.valid, "peak_memory_mb": 31.4 if int8 else 44.9}
    return profile(
        device,
        [setting(base, **more), setting(base * 0.62, threads=2, **more)],
        model={
            "file_bytes": 1_220_000 if int8 else 4_300_000,
            "sha256": hashlib.sha256(onnx.read_bytes()).hexdigest(),
            "parameters": spec.parameters, "macs": spec.macs, "macs_not_counted": [],
            "input_shape": [1, 3, 64, 64], "precision": "int8" if int8 else "fp32",
        },
        operators={
            "exported": {"Conv": 35, "Relu": 34, "Gemm": 1, **({"QuantizeLinear": 70} if int8 else {})},
            "executed": {"QLinearConv": 35, "QGemm": 1} if int8 else {"FusedConv": 35, "Gemm": 1},
        },
        int8_mac_share=0.998 if int8 else 0.0,
        explanation=explanation(spec, base),
    )  # fmt: skip


def card(spec: Spec, labels: np.ndarray) -> dict[str, Any]:
    """The facts of the data."""
    counts = {name: int((labels == i).sum()) for i, name in enumerate(spec.classes)}
    return {
        "schema": Card.FORMAT, "name": spec.data, "task": "multiclass", "classes": spec.classes,
        "n_labels": len(spec.classes), "rare_classes": spec.rare,
        "source": "a seeded generator", "licence": "Apache-2.0", "citation": "edgeward",
        "rare_rule": "share of train below 2 %", "n_images": 3 * spec.n,
        "image_shape": [64, 64, 3], "input_range": [0, 255],
        "counts": dict.fromkeys(("train", "val", "test"), counts),
        "groups": {"train": 700, "val": 690, "test": 2220},
        "train_prior": PRIOR.tolist(), "channel_mean": [0.7, 0.5, 0.5],
        "channel_std": [0.1, 0.1, 0.1], "calibration": {"n": 128},
        "hashes": {"images.npy": "a" * 64, "split.csv": "b" * 64, "calibration.csv": "c" * 64},
        "leakage": {
            "shared_groups": 0, "identical": 0, "near_identical": len(spec.leaks),
            "findings": [
                {"kind": "near_identical", "ids": [leak], "groups": ["g"], "splits": ["train"], "n": 1}
                for leak in spec.leaks
            ],
        },
        "seed": 7,
    }  # fmt: skip


def recipe(spec: Spec) -> dict[str, Any]:
    """How the model was compressed."""
    int8 = spec.recipe != "fp32"
    return {
        "schema": Recipe.FORMAT, "recipe": spec.recipe,
        "steps": [{"step": "ptq_int8" if int8 else "reparameterize"}],
        "precision": "int8" if int8 else "fp32", "backend": "onnxruntime",
        "versions": {"torch": "2.15.0", "neural_compressor": "3.10"},
        "scheme": {"weights": "per channel, symmetric"} if int8 else {},
        "calibration": {"n": 128 * int8, "sha256": "c" * 64 if int8 else None},
        "keep_float": [], "quantized_parameter_share": 0.0, "effects": [],
        "parameters": 1_060_679, "program_bytes": 5_000_000,
        "meta": {
            "model": {"name": spec.model}, "task": "multiclass", "num_classes": len(spec.classes),
            "n_labels": len(spec.classes), "in_chans": 3, "image_size": [64, 64],
            "mean": [0.5] * 3, "std": [0.2] * 3, "classes": spec.classes,
            "logit_shift": [0.0] * len(spec.classes), "data": spec.data, "seed": spec.seed,
        },
    }  # fmt: skip


AGREEMENT = {"max_abs": 2.1e-5, "mean_abs": 1e-6, "p99_abs": 1e-5, "agreement": 1.0, "flipped": 0,
             "flipped_margin": 0.0}  # fmt: skip
FILE_PARITY = {
    "schema": Parity.FORMAT, "passed": True, "failures": [], "precision": "fp32", "n": 128,
    "engine": {"onnxruntime": "1.31.0"}, "spread": 3.0, "median_margin": 1.0,
    "onnx_vs_torch": AGREEMENT, "batches": {"1": 0.0}, "tolerance": {}, "limit": {"max_abs": 1e-3},
}  # fmt: skip


def _history(spec: Spec) -> str:
    rng = np.random.default_rng(spec.seed + len(spec.model))
    lines = ["epoch,train_loss,val_loss,val_auc,val_balanced_accuracy,val_rare_recall,lr,"
             "images_per_second,seconds"]  # fmt: skip
    for epoch in range(12):
        fall = np.exp(-epoch / 4)
        noise = rng.normal(0, 0.01, 4)
        lines.append(
            f"{epoch},{0.4 + fall + noise[0]:.4f},{0.5 + fall + noise[1]:.4f},"
            f"{0.94 - 0.3 * fall + noise[2]:.4f},{0.7 - 0.5 * fall + noise[3]:.4f},"
            f"{0.6 - 0.6 * fall:.4f},0.001,98.0,31.0"
        )
    return "\n".join(lines) + "\n"


def _prepared(at: Prepare, spec: Spec, labels: np.ndarray) -> None:
    """Write small images, all of which are tested on."""
    at.folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    np.save(at.images, rng.integers(0, 256, (spec.n, 4, 4, 3), dtype=np.uint8))
    np.save(at.labels, labels.astype(np.int64))
    rows = [f'{i},case{i},{k},"{i}",g{i},test' for i, k in enumerate(labels)]
    at.split.write_text("\n".join(["index,id,label,class,group,split", *rows]) + "\n")
    at.calibration.write_text("index\n0\n")


def build(root: Path, specs: list[Spec]) -> list[ResultPaths]:
    """Write all files of the candidates under `root`; return what `stage.run` takes."""
    bases = {(s.data, s.model, s.seed): _safety(s) for s in specs if s.verdict == "reference"}
    entries = []
    for spec in specs:
        paths = ResultPaths(spec.data, spec.model, spec.seed, spec.recipe, spec.devices, root=root)
        labels, probabilities = _predict(spec)
        _prepared(paths.prepare, spec, labels)
        paths.assess.cases.mkdir(parents=True, exist_ok=True)
        np.save(paths.assess.cases / "logits.npy", np.log(probabilities).astype(np.float32))
        (paths.assess.folder / "mlflow.json").write_text("{}")
        safety = _safety(spec)
        base = bases.get((spec.data, spec.model, spec.seed))
        if base is None:
            base = _safety(Spec(**{**vars(spec), "loss": {}, "recipe": "fp32"}))
        onnx = paths.export.onnx
        onnx.parent.mkdir(parents=True, exist_ok=True)
        onnx.write_bytes(f"{spec}".encode())
        docs = {
            paths.prepare.card: card(spec, labels),
            paths.assess.safety: safety,
            paths.assess.verdict: _verdict(spec, safety, base),
            paths.export.parity: FILE_PARITY,
            paths.compress.record: recipe(spec),
        }
        for path, content in docs.items():
            write_json(path, content)
        paths.train.history.parent.mkdir(parents=True, exist_ok=True)
        paths.train.history.write_text(_history(spec))
        for device, path in paths.profiles.items():
            write_json(path, _profile(spec, device, onnx))
        entries.append(paths)
    return entries


def default_sweep(**common: Any) -> list[Spec]:
    """Two models x three recipes with every verdict and one INVALID timing."""
    large: dict[str, Any] = {"model": "efficientformerv2_s0", "skill": 2.2, **common}
    return [
        Spec(p50=2.41, **common),
        Spec(recipe="ptq_int8", verdict="fail", p50=1.31, loss={"df": 0.4, "vasc": 0.1}, **common),
        Spec(recipe="qat_int8", verdict="pass", p50=1.30, loss={"df": 0.01}, **common),
        Spec(p50=5.62, **large),
        Spec(recipe="ptq_int8", verdict="inconclusive", p50=4.9, loss={"df": 0.08}, **large),
        Spec(recipe="qat_int8", verdict="pass", p50=4.95, valid=False, **large),
    ]


SWEEP = {"name": "trial <1> & co", "description": "made up & <escaped>"}


class Made(NamedTuple):
    """A report with what it was made from."""

    specs: list[Spec]
    entries: list[ResultPaths]
    out: Path
    metrics: dict[str, float]


def make(root: Path, specs: list[Spec]) -> Made:
    """Build the inputs and the report."""
    entries = build(root / "in", specs)
    metrics = stage.run(SWEEP, entries, out=root / "out")
    return Made(specs, entries, root / "out", metrics)
