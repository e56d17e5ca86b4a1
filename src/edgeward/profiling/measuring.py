"""One question to the device each: a timed setting, throughput, cold start, energy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeward.profiling import parity
from edgeward.profiling.config import ProfileConfig, asked_threads
from edgeward.profiling.statistics import (
    autocorrelation,
    judge,
    judge_machine,
    latency,
    rate,
    spread,
)
from edgeward.profiling.transport import Device

log = logging.getLogger(__name__)

EMULATED = "emulated: timings say nothing about a device"


@dataclass(frozen=True)
class Bench:
    """A model on an open device, and what its answers are compared with.

    Attributes
    ----------
    request : what all questions about the model have in common.
    inputs, reference : images, uint8 (n, c, *spatial), and the reference engine's logits for them.
    sensitivity : of the reference engine to rounding (`parity.sensitivity`); None: not INT8.
    precision : "int8" or the float type of the model.
    """

    cfg: ProfileConfig
    device: Device
    request: dict[str, Any]
    inputs: np.ndarray
    reference: np.ndarray
    precision: str
    sensitivity: float | None = None

    def ask(self, task: str, **more: Any) -> dict[str, Any]:
        """Put one question; a fresh process on the device answers it."""
        return self.device.ask({**self.request, "task": task, **more})

    def _time(self, threads: int | str, **more: Any) -> dict[str, Any]:
        cfg = self.cfg
        return self.ask(
            "time",
            threads=asked_threads(threads),
            warmup=cfg.warmup.model_dump(),
            **{
                "min_duration_s": cfg.min_duration_s,
                "min_count": cfg.min_count,
                "max_duration_s": cfg.max_duration_s,
                "stop": None,
                "inputs": None,
                **more,
            },
        )

    def _parity(self, answer: dict[str, Any]) -> dict[str, Any]:
        found = parity.decode(answer["logits"])
        return parity.compare(
            self.reference, found, self.precision, self.cfg.parity, self.sensitivity
        )

    def _verdict(self, reasons: list[str]) -> dict[str, Any]:
        if self.device.emulated:
            reasons = [EMULATED, *reasons]
        return {"verdict": "INVALID" if reasons else "VALID", "reasons": reasons}

    def _once(self, threads: int | str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Time one setting once; return its record and the agent's answer."""
        cfg = self.cfg
        stop = {
            "percentiles": cfg.validity.judged_percentiles,
            "confidence": cfg.confidence,
            "half_width": cfg.half_width,
        }
        answer = self._time(threads, stop=stop, inputs=parity.encode(self.inputs))
        samples = np.array(answer["samples_ns"], dtype=np.float64) / 1e6
        duration_s = answer["duration_ns"] / 1e9
        summary = latency(samples, cfg.percentiles, cfg.confidence)
        conditions = answer["conditions"]
        same = self._parity(answer)
        reasons = same["reasons"] + judge(samples, summary, conditions, duration_s, cfg)
        setting = {
            "threads": answer["threads"],
            "batch": cfg.batch,
            "resolution": answer["resolution"],
            "load_ms": answer["load_ns"] / 1e6,
            "first_ms": answer["first_ns"] / 1e6,
            "warmup": answer["warmups"],
            "n": len(samples),
            "duration_s": duration_s,
            "stopped_at": "half_width" if answer["precise"] else "max_duration_s",
            "latency_ms": summary,
            "throughput_per_s": len(samples) * cfg.batch / duration_s,
            "peak_memory_mb": _peak_mb(answer),
            "baseline_memory_mb": answer["baseline_bytes"] / 1e6,
            "peak_memory_exact": answer["peak_reset"],
            "parity": same,
            **self._verdict(reasons),
            "conditions": {
                **conditions,
                "timer_ns": answer["timer_ns"],
                "autocorrelation": autocorrelation(samples),
            },
        }
        return setting, answer

    def _until_valid(
        self, once: Callable[[], tuple[dict[str, Any], dict[str, Any]]], what: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Repeat a measurement until it is valid or the attempts are used up; the last one counts."""
        earlier: list[list[str]] = []
        while True:
            record, answer = once()
            log.info(
                "%s, %s: n %d, %s%s",
                self.cfg.name,
                what,
                record["n"],
                record["verdict"],
                "".join(f"; {reason}" for reason in record["reasons"]),
            )
            # Another attempt cannot change what an engine computes.
            hopeless = self.device.emulated or not record["parity"]["passed"]
            if not record["reasons"] or hopeless or len(earlier) + 1 == self.cfg.attempts:
                return {**record, "earlier_attempts": earlier}, answer
            earlier.append(record["reasons"])

    def setting(self, threads: int | str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the record of a thread setting (single stream) and the last answer behind it."""
        record, answer = self._until_valid(lambda: self._once(threads), f"{threads} thread(s)")
        p50, p90 = (record["latency_ms"][p]["estimate"] for p in ("p50", "p90"))
        log.info("%s, %s thread(s): p50 %.3f ms, p90 %.3f ms", self.cfg.name, threads, p50, p90)
        return record, answer

    def throughput(self, batch: int) -> dict[str, Any]:
        """Return the record of images per second in batches of this size, without a pause."""
        cfg, offline = self.cfg, self.cfg.throughput

        def once() -> tuple[dict[str, Any], dict[str, Any]]:
            answer = self._time(
                offline.threads,
                batch=batch,
                min_count=3,
                min_duration_s=offline.min_duration_s,
                max_duration_s=max(cfg.max_duration_s, offline.min_duration_s),
                inputs=parity.encode(self.inputs),
            )
            samples = np.array(answer["samples_ns"], dtype=np.float64) / 1e9
            duration_s = answer["duration_ns"] / 1e9
            same = self._parity(answer)
            reasons = same["reasons"] + judge_machine(answer["conditions"], duration_s, cfg)
            record = {
                "threads": answer["threads"],
                "batch": batch,
                "n": len(samples),
                "duration_s": duration_s,
                "images_per_s": rate(samples, batch, cfg.confidence),
                "peak_memory_mb": _peak_mb(answer),
                "parity": same,
                **self._verdict(reasons),
                "conditions": answer["conditions"],
            }
            return record, answer

        return self._until_valid(once, f"batch {batch}")[0]

    def cold_start(self) -> dict[str, Any] | None:
        """Return what a fresh process waits for, over several of them; None if not asked for.

        ``import_ms`` (of the engine), ``load_ms`` (of the session), ``first_ms`` (inference) and
        ``total_ms`` are {median, min, max}.
        """
        n = self.cfg.cold_starts
        if not n:
            return None
        answers = [self.ask("cold", threads=self.cfg.first_threads) for _ in range(n)]
        times = {k: [a[f"{k}_ns"] / 1e6 for a in answers] for k in ("import", "load", "first")}
        times["total"] = [sum(parts) for parts in zip(*times.values(), strict=True)]
        return {"n": n, **{f"{k}_ms": spread(values) for k, values in times.items()}}

    def energy(self) -> dict[str, Any]:
        """Return the energy per inference with the first thread setting, or why there is none."""
        power = self.cfg.power
        if power.counter == "none":
            return {
                "status": "not measured",
                "reason": f"power.counter is none in config/profile/{self.cfg.name}.yaml",
            }
        if self.device.emulated:
            return {"status": "not measured", "reason": "an emulated device has no power counter"}
        answer = self.ask(
            "energy",
            threads=self.cfg.first_threads,
            power=power.model_dump(),
            warmup=self.cfg.warmup.model_dump(),
        )
        if "reason" in answer:
            return {"status": "not measured", "reason": answer["reason"]}
        return energy_record(answer, self.request["batch"])


def _peak_mb(answer: dict[str, Any]) -> float:
    """Return what the process grew by at its peak."""
    return max(0, answer["peak_bytes"] - answer["baseline_bytes"]) / 1e6


def energy_record(answer: dict[str, Any], batch: int) -> dict[str, Any]:
    """Return the energy record of an agent's answer.

    Per window, E_gross = E / N and E_net = (E - P_idle * t) / N, where P_idle is the mean power of
    the idle part before it; N counts inferences. Joules are per inference of `batch` images.

    Returns
    -------
    ``status "measured", counter {kind, domains}, windows, inferences, duration_s, gross_mj, net_mj,
    idle_w, load_w`` ({median, min, max} over the windows), ``reasons`` why not to trust them.
    """
    windows = answer["windows"]
    idle_w = [w["idle_j"] / w["idle_s"] for w in windows]
    net = [
        (w["load_j"] - idle * w["load_s"]) / w["n"] for w, idle in zip(windows, idle_w, strict=True)
    ]
    reasons = []
    if any(w["load_j"] <= 0 for w in windows):
        reasons.append("the counter did not move in a window; make power.window_s longer")
    elif min(net) <= 0:
        reasons.append(
            "idle took more power than the inferences: the machine was not idle; end other work, "
            "or make power.idle_s longer"
        )
    return {
        "status": "measured",
        "counter": answer["counter"],
        "batch": batch,
        "windows": len(windows),
        "inferences": sum(w["n"] for w in windows),
        "duration_s": sum(w["load_s"] for w in windows),
        "gross_mj": spread([1e3 * w["load_j"] / w["n"] for w in windows]),
        "net_mj": spread([1e3 * value for value in net]),
        "idle_w": spread(idle_w),
        "load_w": spread([w["load_j"] / w["load_s"] for w in windows]),
        "verdict": "INVALID" if reasons else "VALID",
        "reasons": reasons,
    }
