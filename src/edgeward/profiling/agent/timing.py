"""Tasks ``time``, ``throughput`` and ``cold``: how long inferences take."""

from __future__ import annotations

import gc
import os
import time
from typing import Any, Callable  # `Run` is made at run time, which Python 3.8 does with these

from edgeward.runtimes.agent import AgentError

from .conditions import between, describe_host, peak_bytes, reset_peak, snapshot, status_bytes
from .engines import check_file, image_shape, load_engine, logits, random_image, thread_count
from .stopping import GROWTH, enough

CAPACITY = 1_000_000  # samples; 8 MB, allocated before the memory baseline is taken

clock = time.perf_counter_ns
Run = Callable[[], Any]


def _timer_ns() -> int:
    """Return the median cost of one reading of the clock, in ns."""
    deltas = sorted(-clock() + clock() for _ in range(2001))
    return deltas[1000]


def warm_up(run: Run, least: dict[str, Any]) -> int:
    """Run at least ``least["min_count"]`` times and ``least["min_duration_s"]``; return how often."""
    start = clock()
    count = 0
    while count < least["min_count"] or clock() - start < least["min_duration_s"] * 1e9:
        run()
        count += 1
    return count


def _window(run: Run, samples: Any, request: dict[str, Any]) -> tuple[int, int, bool, int]:
    """Fill `samples` with the durations of single inferences in ns.

    Returns their number, the time of the timed blocks in ns, whether the asked precision was
    reached, and the peak memory at the end of the first block, before anything is computed here.
    """
    stop = request["stop"]
    target = min(request["min_count"], CAPACITY)
    min_ns, max_ns = int(request["min_duration_s"] * 1e9), int(request["max_duration_s"] * 1e9)
    count, timed, peak = 0, 0, 0
    while True:
        least = min_ns - timed
        most = max_ns - timed
        begin = clock()
        while True:  # timed: nothing in it but the inference, the clock and the store
            t0 = clock()
            run()
            t1 = clock()
            samples[count] = t1 - t0
            count += 1
            passed = t1 - begin
            if (count >= target and passed >= least) or passed >= most or count == CAPACITY:
                break
        timed += clock() - begin
        peak = peak or peak_bytes()
        precise = stop is None or enough(samples[:count], stop)
        if precise or timed >= max_ns or count == CAPACITY:
            return count, timed, precise, peak
        target = min(int(count * GROWTH) + 1, CAPACITY)
        run()  # the look has cooled the caches


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Time single inferences; see the package's docstring for the request and the answer."""
    import numpy as np

    engine = load_engine(request)
    check_file(request["model"], request["sha256"])
    threads = thread_count(request)
    samples = np.ones(CAPACITY, dtype=np.int64)
    timer_ns = _timer_ns()
    gc.collect()
    peak_reset = reset_peak()
    baseline = status_bytes("VmRSS") or peak_bytes()

    start = clock()
    session = engine.open(request["model"], threads, request["batch"])
    load_ns = clock() - start
    name, shape = image_shape(session, request["batch"])
    image = random_image(shape, request)
    try:
        run = session.bind({name: image})
        start = clock()
        run()
        first_ns = clock() - start
        given = request["inputs"]
        answers = logits(session, name, shape, given) if given else None
        run = session.bind({name: image})
        warmups = 1 + warm_up(run, request["warmup"])
    except AgentError:
        raise
    except Exception as error:
        raise AgentError("run", str(error)) from error

    gc.collect()
    gc.freeze()
    gc.disable()
    load_average = os.getloadavg()[0]
    before = snapshot()
    count, duration_ns, precise, peak = _window(run, samples, request)
    after = snapshot()
    gc.enable()

    return {
        "engine": {"name": engine.name, "version": engine.version},
        "providers": session.providers,
        "host": describe_host(),
        "threads": threads,
        "resolution": shape[2:],
        "load_ns": load_ns,
        "first_ns": first_ns,
        "warmups": warmups,
        "duration_ns": duration_ns,
        "timer_ns": timer_ns,
        "samples_ns": samples[:count].tolist(),
        "precise": precise,
        "logits": answers,
        "baseline_bytes": baseline,
        "peak_bytes": peak,
        "peak_reset": peak_reset,
        "conditions": {"load_average": load_average, **between(before, after)},
    }


def cold(request: dict[str, Any]) -> dict[str, Any]:
    """Time what a fresh process waits for: the engine's import, the session, the first inference."""
    start = clock()
    engine = load_engine(request)
    import_ns = clock() - start
    check_file(request["model"], request["sha256"])
    start = clock()
    session = engine.open(request["model"], thread_count(request), request["batch"])
    load_ns = clock() - start
    name, shape = image_shape(session, request["batch"])
    run = session.bind({name: random_image(shape, request)})
    start = clock()
    try:
        run()
    except Exception as error:
        raise AgentError("run", str(error)) from error
    return {"import_ns": import_ns, "load_ns": load_ns, "first_ns": clock() - start}
