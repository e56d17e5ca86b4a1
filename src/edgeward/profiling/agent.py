"""The part of profiling that runs on the device: this one file, the standard library, numpy, the engine.

It reads one request (JSON) from standard input, does it in a fresh process, and writes one answer
(JSON) to standard output; all other output of the process goes to standard error. It imports
nothing of edgeward and needs no more than Python 3.8, so that it can be copied to a device as it is.

Requests
--------
``{"task": "time", "model", "sha256", "providers", "threads", "spinning", "batch", "seed",
"input_range", "image_size", "warmup": {"min_count", "min_duration_s"}, "min_duration_s",
"min_count", "max_duration_s"}``
    answers with the raw samples (ns) and the conditions under which they were taken.
``{"task": "operators", ..., "runs"}``
    answers with the kernels that execute, from the engine's own profiler.

``threads`` 0 means every core that the process may use. An answer is ``{"ok": true, ...}`` or
``{"ok": false, "kind", "message"}``; ``kind`` is one of ``engine``, ``provider``, ``model``,
``input``, ``run``.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CAPACITY = 1_000_000  # samples; 8 MB, allocated before the memory baseline is taken
TICK = os.sysconf("SC_CLK_TCK")


class AgentError(Exception):
    """What went wrong on the device, and in which respect."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except OSError:
        return None


def _status_bytes(key: str) -> int | None:
    """Return a memory figure of this process from /proc/self/status, in bytes."""
    for line in (_read("/proc/self/status") or "").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return None


def _peak_bytes() -> int:
    peak = _status_bytes("VmHWM")
    if peak is not None:
        return peak
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _reset_peak() -> bool:
    """Make the kernel forget the peak so far (Linux, proc(5) clear_refs = 5)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _machine_ticks() -> dict[str, float] | None:
    """Return busy and stolen seconds of the whole machine since boot (proc(5) stat)."""
    lines = (_read("/proc/stat") or "").splitlines()
    if not lines:
        return None
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, lines[0].split()[1:9])
    return {"busy_s": (user + nice + system + irq + soft) / TICK, "steal_s": steal / TICK}


def _clock_mhz() -> float | None:
    """Return the mean current clock of the cores that this process may use."""
    root = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq"
    values = [_read(root.format(core)) for core in _cores()]
    known = [int(v) / 1000 for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _throttles() -> int | None:
    """Return how often the cores have been throttled since boot, where the machine tells."""
    root = "/sys/devices/system/cpu/cpu{}/thermal_throttle/core_throttle_count"
    values = [_read(root.format(core)) for core in _cores()]
    known = [int(v) for v in values if v is not None]
    return sum(known) if known else None


def _snapshot() -> dict[str, Any]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "machine": _machine_ticks(),
        "own_s": usage.ru_utime + usage.ru_stime,
        "preempted": usage.ru_nivcsw,
        "major_faults": usage.ru_majflt,
        "throttles": _throttles(),
        "clock_mhz": _clock_mhz(),
    }


def _conditions(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return what happened on the machine between two snapshots; None where it cannot be read."""
    own = after["own_s"] - before["own_s"]
    result: dict[str, Any] = {
        "own_cpu_s": own,
        "preempted": after["preempted"] - before["preempted"],
        "major_faults": after["major_faults"] - before["major_faults"],
        "other_cpu_s": None,
        "steal_s": None,
        "throttled": None,
        "clock_mhz": [before["clock_mhz"], after["clock_mhz"]],
    }
    if before["machine"] and after["machine"]:
        busy = after["machine"]["busy_s"] - before["machine"]["busy_s"]
        result["other_cpu_s"] = max(0.0, busy - own)
        result["steal_s"] = after["machine"]["steal_s"] - before["machine"]["steal_s"]
    if before["throttles"] is not None:
        result["throttled"] = after["throttles"] - before["throttles"]
    return result


def describe_host() -> dict[str, Any]:
    """Return what identifies the kind of machine (never its name or its user)."""
    cpuinfo: dict[str, str] = {}
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        cpuinfo.setdefault(key.strip(), value.strip())
    flags = (cpuinfo.get("flags") or cpuinfo.get("Features") or "").split()
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
    memory = None
    for line in (_read("/proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            memory = int(line.split()[1]) * 1024
    return {
        "machine": platform.machine(),
        "cpu": cpuinfo.get("model name") or platform.processor() or None,
        "cores": os.cpu_count(),
        "cores_usable": len(_cores()),
        "instructions": [flag for flag in wanted if flag in flags],
        "virtual": "hypervisor" in flags,
        "memory_bytes": memory,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _engine(providers: list[str]) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise AgentError("engine", f"onnxruntime cannot be imported: {error}") from error
    there = onnxruntime.get_available_providers()
    missing = [name for name in providers if name not in there]
    if missing:
        raise AgentError("provider", f"{', '.join(missing)} (this build has {', '.join(there)})")
    return onnxruntime


def _check_model(request: dict[str, Any]) -> None:
    """Compare the file's hash with the one asked for; this also brings it into the page cache."""
    try:
        with Path(request["model"]).open("rb") as handle:
            digest = hashlib.sha256()
            while block := handle.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise AgentError("model", str(error)) from error
    found = digest.hexdigest()
    if found != request["sha256"]:
        raise AgentError("model", f"its SHA-256 is {found}, not {request['sha256']}")


def _options(onnxruntime: Any, request: dict[str, Any]) -> tuple[Any, int]:
    threads = request["threads"] or len(_cores())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    spinning = "1" if request["spinning"] else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    return options, threads


def _session(onnxruntime: Any, request: dict[str, Any], options: Any) -> Any:
    try:
        session = onnxruntime.InferenceSession(
            request["model"], options, providers=request["providers"]
        )
    except Exception as error:  # the engine has a dozen exception types of its own
        raise AgentError("model", str(error)) from error
    active = session.get_providers()
    refused = [name for name in request["providers"] if name not in active]
    if refused:
        raise AgentError("provider", f"{', '.join(refused)} did not start (active: {active})")
    return session


def _image(session: Any, request: dict[str, Any]) -> tuple[str, Any]:
    """Return the input's name and a random image, float32 (batch, c, h, w), whole numbers."""
    import numpy as np

    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
        raise AgentError("input", f"one float32 image (batch, c, h, w) expected, found: {found}")
    shape = [request["batch"], *inputs[0].shape[1:]]
    if not all(isinstance(side, int) for side in shape):
        raise AgentError("input", f"only the batch may be dynamic, found {inputs[0].shape}")
    low, high = request["input_range"]
    rng = np.random.default_rng(request["seed"])
    return inputs[0].name, rng.integers(low, high + 1, shape).astype(np.float32)


def _timer_ns() -> int:
    """Return the median cost of one reading of the clock, in ns."""
    clock = time.perf_counter_ns
    deltas = sorted(-clock() + clock() for _ in range(2001))
    return deltas[1000]


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Time single inferences; see the module's docstring for the request and the answer."""
    onnxruntime = _engine(request["providers"])
    import numpy as np

    _check_model(request)
    samples = np.ones(CAPACITY, dtype=np.int64)
    options, threads = _options(onnxruntime, request)
    clock = time.perf_counter_ns
    timer_ns = _timer_ns()
    gc.collect()
    peak_reset = _reset_peak()
    baseline = _status_bytes("VmRSS") or _peak_bytes()

    start = clock()
    session = _session(onnxruntime, request, options)
    load_ns = clock() - start
    name, image = _image(session, request)
    binding = session.io_binding()
    binding.bind_cpu_input(name, image)
    for output in session.get_outputs():
        binding.bind_output(output.name, "cpu")
    run = session.run_with_iobinding
    try:
        start = clock()
        run(binding)
        first_ns = clock() - start
        warmups = 1
        least = request["warmup"]["min_duration_s"] * 1e9
        while warmups < request["warmup"]["min_count"] or clock() - start < least:
            run(binding)
            warmups += 1
    except Exception as error:
        raise AgentError("run", str(error)) from error

    min_count = min(request["min_count"], CAPACITY)
    min_ns, max_ns = int(request["min_duration_s"] * 1e9), int(request["max_duration_s"] * 1e9)
    gc.collect()
    gc.freeze()
    gc.disable()
    count = 0
    load_average = os.getloadavg()[0]
    before = _snapshot()
    begin = clock()
    while True:  # the timed window: nothing in it but the inference, the clock and the store
        t0 = clock()
        run(binding)
        t1 = clock()
        samples[count] = t1 - t0
        count += 1
        passed = t1 - begin
        if (count >= min_count and passed >= min_ns) or passed >= max_ns or count == CAPACITY:
            break
    duration_ns = clock() - begin
    after = _snapshot()
    gc.enable()

    return {
        "engine": {"name": "onnxruntime", "version": onnxruntime.__version__},
        "providers": session.get_providers(),
        "host": describe_host(),
        "threads": threads,
        "resolution": list(image.shape[2:]),
        "load_ns": load_ns,
        "first_ns": first_ns,
        "warmups": warmups,
        "duration_ns": duration_ns,
        "timer_ns": timer_ns,
        "samples_ns": samples[:count].tolist(),
        "baseline_bytes": baseline,
        "peak_bytes": _peak_bytes(),
        "peak_reset": peak_reset,
        "conditions": {"load_average": load_average, **_conditions(before, after)},
    }


def operators(request: dict[str, Any]) -> dict[str, Any]:
    """Record the kernels of one inference, with the shapes of their tensors, and their mean time."""
    onnxruntime = _engine(request["providers"])
    _check_model(request)
    options, threads = _options(onnxruntime, request)
    # Keeps the weights visible in the record; which kernels run does not depend on it.
    options.add_session_config_entry("session.disable_prepacking", "1")
    with tempfile.TemporaryDirectory(prefix="edgeward-agent-") as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "kernels")
        session = _session(onnxruntime, request, options)
        name, image = _image(session, request)
        try:
            for _ in range(request["runs"]):
                session.run(None, {name: image})
        except Exception as error:
            raise AgentError("run", str(error)) from error
        events = json.loads(Path(session.end_profiling()).read_text())
    kernels: dict[Any, dict[str, Any]] = {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        args = event["args"]
        key = (args.get("node_index"), event["name"])
        kernel = kernels.setdefault(
            key,
            {
                "name": event["name"][: -len("_kernel_time")],
                "operator": args["op_name"],
                "provider": args.get("provider"),
                "inputs": [next(iter(t.items())) for t in args.get("input_type_shape", [])],
                "outputs": [next(iter(t.items())) for t in args.get("output_type_shape", [])],
                "total_us": 0,
            },
        )
        kernel["total_us"] += event["dur"]
    found = [
        {
            **{k: v for k, v in kernel.items() if k != "total_us"},
            "us": kernel["total_us"] / request["runs"],
        }
        for kernel in kernels.values()
    ]
    return {"threads": threads, "kernels": found}


def main() -> int:
    """Answer the request on standard input; the exit status is 0 exactly if the answer is ok."""
    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not end up inside the answer
    request = json.load(sys.stdin)
    try:
        answer = {"ok": True, **{"time": measure, "operators": operators}[request["task"]](request)}
    except AgentError as error:
        answer = {"ok": False, "kind": error.kind, "message": str(error)}
    json.dump(answer, answer_to)
    answer_to.close()
    return 0 if answer["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
