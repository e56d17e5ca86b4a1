"""One question to the device each: a timed setting, throughput, cold start, energy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

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
from edgeward.profiling.sustained import sustained
from edgeward.profiling.transport import Device
from edgeward.records.profile import (
    ColdStart,
    Energy,
    NotMeasured,
    Parity,
    Setting,
    Throughput,
    TimedConditions,
)
from edgeward.records.sustained import Sustained

log = logging.getLogger(__name__)

Timed = TypeVar("Timed", Setting, Throughput)
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
    exclusive : whether the model decides for one label; see `edgeward.statistics.decisions`.
    """

    cfg: ProfileConfig
    device: Device
    request: dict[str, Any]
    inputs: np.ndarray
    reference: np.ndarray
    precision: str
    sensitivity: float | None = None
    exclusive: bool = True

    def ask(self, task: str, longer_s: float = 0.0, **more: Any) -> dict[str, Any]:
        """Put one question; a fresh process on the device answers it, which may take so much longer than its deadline."""
        return self.device.ask({**self.request, "task": task, **more}, longer_s)

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

    def _parity(self, answer: dict[str, Any]) -> Parity:
        found = parity.decode(answer["logits"])
        return parity.compare(
            self.reference, found, self.precision, self.cfg.parity, self.sensitivity, self.exclusive
        )

    def _verdict(self, reasons: list[str]) -> dict[str, Any]:
        if self.device.emulated:
            reasons = [EMULATED, *reasons]
        return {"verdict": "INVALID" if reasons else "VALID", "reasons": reasons}

    def _once(self, threads: int | str) -> tuple[Setting, dict[str, Any]]:
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
        if "step_ns" in answer:
            conditions["step_ns"] = answer["step_ns"]
        same = self._parity(answer)
        reasons = same.reasons + judge(samples, summary, conditions, duration_s, cfg)
        setting = Setting(
            threads=answer["threads"],
            batch=cfg.batch,
            resolution=answer["resolution"],
            load_ms=answer["load_ns"] / 1e6,
            first_ms=answer["first_ns"] / 1e6,
            warmup=answer["warmups"],
            n=len(samples),
            duration_s=duration_s,
            stopped_at="half_width" if answer["precise"] else "max_duration_s",
            latency_ms=summary,
            throughput_per_s=len(samples) * cfg.batch / duration_s,
            peak_memory_mb=_peak_mb(answer),
            baseline_memory_mb=answer["baseline_bytes"] / 1e6,
            peak_memory_exact=answer["peak_reset"],
            parity=same,
            **self._verdict(reasons),
            conditions=TimedConditions(
                **conditions,
                timer_ns=answer["timer_ns"],
                autocorrelation=autocorrelation(samples),
            ),
            earlier_attempts=[],
        )
        return setting, answer

    def _until_valid(
        self, once: Callable[[], tuple[Timed, dict[str, Any]]], what: str
    ) -> tuple[Timed, dict[str, Any]]:
        """Repeat a measurement until it is valid or the attempts are used up; the last one counts."""
        earlier: list[list[str]] = []
        while True:
            record, answer = once()
            log.info(
                "%s, %s: n %d, %s%s",
                self.cfg.name,
                what,
                record.n,
                record.verdict,
                "".join(f"; {reason}" for reason in record.reasons),
            )
            # Another attempt cannot change what an engine computes.
            hopeless = self.device.emulated or not record.parity.passed
            if not record.reasons or hopeless or len(earlier) + 1 == self.cfg.attempts:
                return record.model_copy(update={"earlier_attempts": earlier}), answer
            earlier.append(record.reasons)

    def setting(self, threads: int | str) -> tuple[Setting, dict[str, Any]]:
        """Return the record of a thread setting (single stream) and the last answer behind it."""
        record, answer = self._until_valid(lambda: self._once(threads), f"{threads} thread(s)")
        p50, p90 = record.latency_ms.p50.estimate, record.latency_ms.p90.estimate
        log.info("%s, %s thread(s): p50 %.3f ms, p90 %.3f ms", self.cfg.name, threads, p50, p90)
        return record, answer

    def throughput(self, batch: int) -> Throughput:
        """Return the record of images per second in batches of this size, without a pause."""
        cfg, offline = self.cfg, self.cfg.throughput

        def once() -> tuple[Throughput, dict[str, Any]]:
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
            reasons = same.reasons + judge_machine(answer["conditions"], duration_s, cfg)
            record = Throughput(
                threads=answer["threads"],
                batch=batch,
                n=len(samples),
                duration_s=duration_s,
                images_per_s=rate(samples, batch, cfg.confidence),
                peak_memory_mb=_peak_mb(answer),
                parity=same,
                **self._verdict(reasons),
                conditions=answer["conditions"],
                earlier_attempts=[],
            )
            return record, answer

        return self._until_valid(once, f"batch {batch}")[0]

    def cold_start(self) -> ColdStart | None:
        """Return what a fresh process waits for, over several of them; None if not asked for."""
        n = self.cfg.cold_starts
        if not n:
            return None
        answers = [self.ask("cold", threads=self.cfg.first_threads) for _ in range(n)]
        times = {k: [a[f"{k}_ns"] / 1e6 for a in answers] for k in ("import", "load", "first")}
        times["total"] = [sum(parts) for parts in zip(*times.values(), strict=True)]
        return ColdStart(n=n, **{f"{k}_ms": spread(values) for k, values in times.items()})

    def sustained(self) -> Sustained | None:
        """Return the record of minutes without a pause; None if not asked for."""
        asked = self.cfg.sustained
        if not asked.duration_s:
            return None
        answer = self.ask(
            "sustain",
            longer_s=asked.duration_s,
            threads=self.cfg.first_threads,
            warmup=self.cfg.warmup.model_dump(),
            power=self.cfg.power.model_dump(),
            inputs=parity.encode(self.inputs),
            duration_s=asked.duration_s,
            window_s=asked.window_s,
        )
        emulated = [EMULATED] if self.device.emulated else []
        record = sustained(answer, self._parity(answer), emulated, self.cfg)
        log.info(
            "%s: %s over %.0f s: last stretch / first %.3f [%s], %s%s",
            self.cfg.name,
            record.answer,
            record.duration_s,
            record.ratio.estimate,
            ", ".join(
                "?" if e is None else f"{e:.3f}" for e in (record.ratio.low, record.ratio.high)
            ),
            record.verdict,
            "".join(f"; {reason}" for reason in record.reasons),
        )
        return record

    def energy(self) -> Energy | NotMeasured:
        """Return the energy per inference with the first thread setting, or why there is none."""
        power = self.cfg.power
        if power.counter == "none":
            return not_measured(f"power.counter is none in config/profile/{self.cfg.name}.yaml")
        if self.device.emulated:
            return not_measured("an emulated device has no power counter")
        answer = self.ask(
            "energy",
            threads=self.cfg.first_threads,
            power=power.model_dump(),
            warmup=self.cfg.warmup.model_dump(),
        )
        if "reason" in answer:
            return not_measured(answer["reason"])
        return energy_record(answer, self.request["batch"])


def _peak_mb(answer: dict[str, Any]) -> float:
    """Return what the process grew by at its peak."""
    return max(0, answer["peak_bytes"] - answer["baseline_bytes"]) / 1e6


def not_measured(reason: str) -> NotMeasured:
    """Say why there is no energy figure."""
    return NotMeasured(status="not measured", reason=reason)


def energy_record(answer: dict[str, Any], batch: int) -> Energy:
    """Return the energy record of an agent's answer.

    Per window, E_gross = E / N and E_net = (E - P_idle * t) / N, where P_idle is the mean power of
    the idle part before it; N counts inferences. Joules are per inference of `batch` images.
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
    return Energy(
        status="measured",
        counter=answer["counter"],
        batch=batch,
        windows=len(windows),
        inferences=sum(w["n"] for w in windows),
        duration_s=sum(w["load_s"] for w in windows),
        gross_mj=spread([1e3 * w["load_j"] / w["n"] for w in windows]),
        net_mj=spread([1e3 * value for value in net]),
        idle_w=spread(idle_w),
        load_w=spread([w["load_j"] / w["load_s"] for w in windows]),
        verdict="INVALID" if reasons else "VALID",
        reasons=reasons,
    )
