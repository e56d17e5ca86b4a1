"""Task ``kernels``: many small files, each timed in every round, so that none has the quiet or the busy moments."""

from __future__ import annotations

import gc
import random
from typing import Any

from edgeward.runtimes.agent import AgentError

from .conditions import describe_host
from .engines import check_file, load_engine, thread_count
from .timing import clock


def kernels(request: dict[str, Any]) -> dict[str, Any]:
    """Time short blocks of every file, round by round in random order.

    Returns
    -------
    ``block_ns`` [file][round], the mean time of an inference in the block; no rounds of a file that the engine refuses, whose
    reason is in ``refused`` [[index, reason], ...]. Fewer rounds than asked for if ``max_duration_s`` passes, but one.
    """
    import numpy as np

    engine = load_engine(request)
    threads = thread_count(request)
    kinds = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(u8)": np.uint8}
    runs: list[Any] = []
    refused: list[list[Any]] = []
    for index, (path, digest) in enumerate(zip(request["models"], request["sha256s"])):
        check_file(path, digest)
        try:
            session = engine.open(path, threads, 1, shared=True)
            feed = {
                name: np.ones([side or 1 for side in shape], kinds[kind])
                for name, kind, shape in session.inputs
            }
            run = session.bind(feed)
            run()
        except Exception as error:
            if isinstance(error, AgentError) and error.kind != "model":
                raise
            refused.append([index, str(error)])
            run = None
        runs.append(run)
    found: list[list[float]] = [[] for _ in runs]
    calls: dict[int, int] = {}
    for index, run in enumerate(runs):
        if run is not None:
            start = clock()
            run()
            calls[index] = max(1, int(request["block_s"] * 1e9 / max(1, clock() - start)))
    gc.collect()
    gc.disable()
    rng, order = random.Random(request["seed"]), [*calls]
    end = clock() + request["max_duration_s"] * 1e9
    for number in range(request["rounds"]):
        if number and clock() > end:
            break
        rng.shuffle(order)
        for index in order:
            run, count = runs[index], calls[index]
            run()
            start = clock()
            for _ in range(count):
                run()
            found[index].append((clock() - start) / count)
    gc.enable()
    return {
        "engine": {"name": engine.name, "version": engine.version},
        "host": describe_host(),
        "threads": threads,
        "block_ns": found,
        "refused": refused,
    }
