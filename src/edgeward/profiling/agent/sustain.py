"""Task ``sustain``: inferences without a pause for minutes, window by window."""

from __future__ import annotations

import gc
from math import ceil
from pathlib import Path
from typing import Any

from edgeward.runtimes.agent import AgentError

from .conditions import between, describe_host, snapshot
from .counters import SYS, NoCounter, find_counter
from .engines import check_file, image_shape, load_engine, logits, random_image, thread_count
from .timing import Run, clock, warm_up

KEPT = (
    500  # samples of a window at most, evenly spread over it: half an hour must fit into an answer
)


def _windows(run: Run, request: dict[str, Any], counter: Any) -> list[dict[str, Any]]:
    """Run for ``duration_s``; return what was seen in each window of ``window_s``."""
    window_ns = int(request["window_s"] * 1e9)
    start = clock()
    every = 1
    end = start + int(request["duration_s"] * 1e9)
    windows: list[dict[str, Any]] = []
    before = snapshot()
    while clock() < end:
        if counter:
            counter.start()
        samples, count = [], 0
        begin = clock()
        while True:  # timed: nothing in it but the inference, the clock and, now and then, a store
            t0 = clock()
            run()
            t1 = clock()
            if count % every == 0:
                samples.append(t1 - t0)
            count += 1
            if t1 - begin >= window_ns:
                break
        joules = counter.stop() if counter else None
        samples = samples[:: ceil(len(samples) / KEPT)]
        every = ceil(count / KEPT)
        after = snapshot()
        windows.append(
            {
                "start_ns": begin - start,
                "duration_ns": t1 - begin,
                "n": count,
                "samples_ns": samples,
                "energy_j": joules,
                "conditions": between(before, after),
            }
        )
        before = after
    return windows


def sustain(request: dict[str, Any], root: Path = SYS) -> dict[str, Any]:
    """Run a model for minutes; energy, clock and temperature where the machine shows them."""
    engine = load_engine(request)
    reason, counter = None, None
    try:
        if request["power"]["counter"] == "none":
            raise NoCounter("power.counter is none")
        counter = find_counter(request["power"], engine.on_gpu, root)
    except NoCounter as error:
        reason = str(error)
    check_file(request["model"], request["sha256"])
    threads = thread_count(request)
    session = engine.open(request["model"], threads, request["batch"])
    name, shape = image_shape(session, request["batch"])
    try:
        answers = logits(session, name, shape, request["inputs"])
        run = session.bind({name: random_image(shape, request)})
        warm_up(run, request["warmup"])
        gc.collect()
        gc.freeze()
        gc.disable()
        windows = _windows(run, request, counter)
        gc.enable()
    except AgentError:
        raise
    except Exception as error:
        raise AgentError("run", str(error)) from error
    return {
        "host": describe_host(),
        "threads": threads,
        "logits": answers,
        "counter": counter and {"kind": counter.kind, "domains": counter.domains},
        "reason": reason,
        "windows": windows,
    }
