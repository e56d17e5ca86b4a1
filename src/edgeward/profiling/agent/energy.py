"""Task ``energy``: joules per inference from the machine's own counters.

Energy per inference is (energy of the window - idle power * length of the window) / inferences;
both the gross and the net figure are given. There is no estimate: without a counter there is no
figure.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeward.runtimes.agent import AgentError

from .counters import SYS, NoCounter, find_counter
from .engines import check_file, image_shape, load_engine, random_image, thread_count
from .timing import warm_up


def measure_energy(
    counter: Any, run: Callable[[], Any], power: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return one record per window: idle first, then inferences without a pause.

    Records are ``idle_j, idle_s, load_j, load_s, n``.
    """
    windows = []
    for _ in range(power["windows"]):
        counter.start()
        begin = time.perf_counter()
        time.sleep(power["idle_s"])
        idle_j = counter.stop()
        idle_s = time.perf_counter() - begin
        run()  # wakes the cores
        n = 0
        counter.start()
        begin = time.perf_counter()
        while time.perf_counter() - begin < power["window_s"]:
            run()
            n += 1
        load_j = counter.stop()
        load_s = time.perf_counter() - begin
        windows.append(
            {"idle_j": idle_j, "idle_s": idle_s, "load_j": load_j, "load_s": load_s, "n": n}
        )
    return windows


def energy(request: dict[str, Any], root: Path = SYS) -> dict[str, Any]:
    """Measure energy, or say why it cannot be: ``{"reason"}`` or ``{"counter", "windows"}``."""
    try:
        engine = load_engine(request)
        # Before the model is opened, so that a machine without a counter is not kept waiting.
        counter = find_counter(request["power"], engine.on_gpu, root)
        check_file(request["model"], request["sha256"])
        session = engine.open(request["model"], thread_count(request), request["batch"])
        name, shape = image_shape(session, request["batch"])
        run = session.bind({name: random_image(shape, request)})
        warm_up(run, request["warmup"])
        windows = measure_energy(counter, run, request["power"])
    except NoCounter as error:
        return {"reason": str(error)}
    except AgentError:
        raise
    except Exception as error:
        raise AgentError("run", str(error)) from error
    return {"counter": {"kind": counter.kind, "domains": counter.domains}, "windows": windows}
