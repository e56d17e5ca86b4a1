"""How long inferences take."""

from __future__ import annotations

import gc
import os
import time
from typing import Any

from .conditions import between, describe_host, peak_bytes, reset_peak, snapshot, status_bytes
from .engines import check_model, load_engine, open_session, random_image, session_options
from .errors import AgentError

CAPACITY = 1_000_000  # samples; 8 MB, allocated before the memory baseline is taken


def _timer_ns() -> int:
    """Return the median cost of one reading of the clock, in ns."""
    clock = time.perf_counter_ns
    deltas = sorted(-clock() + clock() for _ in range(2001))
    return deltas[1000]


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Time single inferences; see the module's docstring for the request and the answer."""
    onnxruntime = load_engine(request["providers"])
    import numpy as np

    check_model(request)
    samples = np.ones(CAPACITY, dtype=np.int64)
    options, threads = session_options(onnxruntime, request)
    clock = time.perf_counter_ns
    timer_ns = _timer_ns()
    gc.collect()
    peak_reset = reset_peak()
    baseline = status_bytes("VmRSS") or peak_bytes()

    start = clock()
    session = open_session(onnxruntime, request, options)
    load_ns = clock() - start
    name, image = random_image(session, request)
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
    before = snapshot()
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
    after = snapshot()
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
        "peak_bytes": peak_bytes(),
        "peak_reset": peak_reset,
        "conditions": {"load_average": load_average, **between(before, after)},
    }
