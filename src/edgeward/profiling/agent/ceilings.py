"""Task ``ceilings``: the best that the device does, through the engine that runs the models."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from edgeward.runtimes.agent import AgentError

from .conditions import describe_host
from .engines import check_file, load_engine, thread_count

REPEATS_PER_LOOK = 10.0  # blocks per duration: the best of them is the ceiling


def _best_s(run: Callable[[], Any], duration_s: float) -> float:
    """Return the least mean time of `run` over any of several equal blocks.

    Whatever disturbs a run makes it longer, so the shortest block is the nearest to the ceiling.
    """
    clock = time.perf_counter
    run()
    start = clock()
    run()
    once = max(clock() - start, 1e-9)
    calls = max(1, int(duration_s / REPEATS_PER_LOOK / once))
    best = float("inf")
    end = clock() + duration_s
    while best == float("inf") or clock() < end:
        start = clock()
        for _ in range(calls):
            run()
        best = min(best, (clock() - start) / calls)
    return best


def copy_rate(size: int, threads: int, duration_s: float) -> float:
    """Return the bytes per second at which `threads` threads copy a working set.

    Parameters
    ----------
    size : bytes of source and target together, over all threads. What is read and what is written
        both count (as STREAM does); that a cache may read a line before it writes it does not.
    """
    import numpy as np

    length = max(1, size // 2 // threads)
    pairs = [(np.ones(length, np.uint8), np.zeros(length, np.uint8)) for _ in range(threads)]
    if threads == 1:
        source, target = pairs[0]
        return 2 * length / _best_s(lambda: np.copyto(target, source), duration_s)
    # All threads copy many times between two barriers; numpy copies without the interpreter's lock.
    loops = max(1, 32_000_000 // length)
    gates = threading.Barrier(threads + 1), threading.Barrier(threads + 1)
    stop = threading.Event()

    def work(source: Any, target: Any) -> None:
        while True:
            gates[0].wait()
            if stop.is_set():
                return
            for _ in range(loops):
                np.copyto(target, source)
            gates[1].wait()

    workers = [threading.Thread(target=work, args=pair, daemon=True) for pair in pairs]
    for worker in workers:
        worker.start()

    def once() -> None:
        gates[0].wait()
        gates[1].wait()

    seconds = _best_s(once, duration_s)
    stop.set()
    gates[0].wait()
    for worker in workers:
        worker.join()
    return 2 * length * threads * loops / seconds


def ceilings(request: dict[str, Any]) -> dict[str, Any]:
    """Measure copy bandwidth and matrix rates; see the package's docstring."""
    import numpy as np

    engine = load_engine(request)
    threads = thread_count(request)
    rates = []
    for path, digest in zip(request["models"], request["sha256s"]):
        check_file(path, digest)
        session = engine.open(path, threads, 1)
        name, kind, shape = session.inputs[0]
        kinds = {
            "tensor(float)": np.float32,
            "tensor(uint8)": np.uint8,
            "tensor(int8)": np.int8,
            "tensor(u8)": np.uint8,
        }
        if kind not in kinds or None in shape:
            raise AgentError("input", f"{name} {kind} {shape} is no input to fill")
        run = session.bind({name: np.ones(shape, dtype=kinds[kind])})
        try:
            rates.append(_best_s(run, request["duration_s"]))
        except Exception as error:
            raise AgentError("run", str(error)) from error
    return {
        "engine": {"name": engine.name, "version": engine.version},
        "host": describe_host(),
        "threads": threads,
        "seconds": rates,
        "copy": [
            {"bytes": size, "bytes_per_s": copy_rate(size, threads, request["duration_s"])}
            for size in request["copy_bytes"]
        ],
    }
