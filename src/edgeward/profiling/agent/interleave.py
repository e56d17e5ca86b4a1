"""Task ``interleave``: several models in one process, in rounds, so that they share its luck."""

from __future__ import annotations

import gc
import random
from typing import Any

from edgeward.runtimes.agent import AgentError

from .conditions import between, describe_host, snapshot
from .engines import check_file, image_shape, load_engine, random_image, thread_count
from .timing import clock, warm_up


def interleave(request: dict[str, Any]) -> dict[str, Any]:
    """Time short blocks of every model in random order, round by round.

    Before each block come ``settle`` inferences that are not timed: they bring the model back into
    the caches that the others have taken.

    A model that the engine refuses is left out; without the first, or with nothing but the first,
    nothing is timed.

    Returns
    -------
    ``samples_ns`` [round][model][sample] in the order of ``request["models"]`` less the refused
    ones, ``refused`` [[index, reason], ...], ``order`` [round][position] (indices of the models
    that are left), the rest as in `timing.measure`. Fewer rounds than asked for if
    ``max_duration_s`` passes.
    """
    engine = load_engine(request)
    threads = thread_count(request)
    runs, providers = [], []
    refused: list[list[Any]] = []
    for index, (path, digest) in enumerate(zip(request["models"], request["sha256s"])):
        check_file(path, digest)
        try:
            session = engine.open(path, threads, request["batch"], shared=True)
        except AgentError as error:
            if error.kind != "model":
                raise
            refused.append([index, str(error)])
            continue
        name, shape = image_shape(session, request["batch"])
        runs.append(session.bind({name: random_image(shape, request)}))
        providers = session.providers
    if len(runs) < 2 or (refused and refused[0][0] == 0):
        runs = []
    rng = random.Random(request["seed"])
    settle, block = range(request["settle"]), range(request["block"])
    order = list(range(len(runs)))
    orders: list[list[int]] = []
    rounds: list[list[Any]] = []
    try:
        for run in runs:
            warm_up(run, request["warmup"])
        gc.collect()
        gc.freeze()
        gc.disable()
        before = snapshot()
        begin = clock()
        end = begin + request["max_duration_s"] * 1e9
        while runs and len(rounds) < request["rounds"] and clock() < end:
            rng.shuffle(order)
            found: list[Any] = [None] * len(runs)
            for index in order:
                run = runs[index]
                for _ in settle:
                    run()
                times = []
                for _ in block:
                    t0 = clock()
                    run()
                    times.append(clock() - t0)
                found[index] = times
            orders.append(list(order))
            rounds.append(found)
        duration_ns = clock() - begin
        after = snapshot()
        gc.enable()
    except AgentError:
        raise
    except Exception as error:
        raise AgentError("run", str(error)) from error
    return {
        "engine": {"name": engine.name, "version": engine.version},
        "providers": providers,
        "host": describe_host(),
        "threads": threads,
        "duration_ns": duration_ns,
        "order": orders,
        "samples_ns": rounds,
        "refused": refused,
        "conditions": between(before, after),
    }
