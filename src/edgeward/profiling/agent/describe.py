"""Task ``describe``: what is on the device, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .conditions import describe_host, snapshot
from .counters import COUNTERS, SYS, NoCounter
from .engines import load_engine, thread_count


def describe(request: dict[str, Any], root: Path = SYS) -> dict[str, Any]:
    """Return host, engine, providers, threads, what conditions can be read, and the power counters.

    ``counters`` is {kind: domains, or why it cannot be used}; ``readable`` {condition: bool}.
    """
    engine = load_engine(request)
    counters: dict[str, Any] = {}
    for kind, open_counter in COUNTERS.items():
        try:
            counters[kind] = open_counter(root, []).domains
        except NoCounter as error:
            counters[kind] = str(error)
    now = snapshot()
    readable = {
        name: now[name] is not None
        for name in ("machine", "throttles", "clock_mhz", "hottest_c", "cooling")
    }
    return {
        "host": describe_host(),
        "engine": {"name": engine.name, "version": engine.version},
        "available": engine.available(),
        "threads": thread_count(request),
        "readable": readable,
        "counters": counters,
    }
