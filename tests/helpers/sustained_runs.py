"""Minutes without a pause that are made up."""

from __future__ import annotations

import numpy as np
from profiling_models import host_quick

from edgeward.profiling.sustained import sustained
from edgeward.records.parts import Parity
from edgeward.records.sustained import Sustained

FAITHFUL = Parity(
    n=4, spread=1.0, max_abs=0.0, mean_abs=0.0, agreement=1.0, limit=1.0, decided=None,
    passed=True, reasons=[],
)  # fmt: skip
MINUTES = {"duration_s": 600, "window_s": 5, "edge_s": 60, "max_slowdown": 0.05}


def run(at_the_end: float, other_s: float = 0.0) -> Sustained:
    """Judge ten minutes that become slower by a factor, linearly, while others use `other_s` of every second."""
    rng = np.random.default_rng(0)
    windows = [
        {
            "start_ns": i * 5_000_000_000,
            "duration_ns": 5_000_000_000,
            "n": 5000,
            "samples_ns": (1e6 * (1 + (at_the_end - 1) * i / 119) * rng.lognormal(0, 0.02, 100)).astype(int).tolist(),
            "energy_j": 10.0,
            "conditions": {
                "own_cpu_s": 5.0, "other_cpu_s": 5 * other_s, "steal_s": 0.0, "throttled": i,
                "clock_mhz": [3000.0, 2000.0], "hottest_c": [40.0, 95.0], "cooling": [0, 3],
            },
        }
        for i in range(120)
    ]  # fmt: skip
    counter = {"kind": "rapl", "domains": ["package-0"]}
    answer = {"threads": 1, "windows": windows, "counter": counter, "reason": None}
    return sustained(answer, FAITHFUL, [], host_quick(sustained=MINUTES))
