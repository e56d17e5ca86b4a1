"""Time and memory of whole volumes, measured, beside what the report computes from one window.

    python benchmarks/whole_volumes.py results/hippocampus/*/s0/*/export/model.onnx

The report (section "Whole volumes") multiplies the median latency of a window by the number of windows,
and adds the arrays of the volume to the engine's peak. Here the windows are run and blended, as the stage
`assess` does, over drawn volumes of the given sides, on one thread and in a fresh process each, so that the
peak memory is of that volume alone. `ratio` is measured over computed: what reading and blending add.
One volume is one measurement without interval; run it twice to see the spread.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgeward.core.windows import sliding
from edgeward.profiling.agent.conditions import peak_bytes
from edgeward.runtimes.session import open_session
from edgeward.tasks.segmentation.volumes import arrays_mb, windows

SIDES = (40, 64, 96, 128)
OVERLAP = 0.5  # of config/safety/
SINGLE = 15  # timings of one window, of which the median counts


def measure(model: Path, side: int, overlap: float) -> dict[str, Any]:
    """Run a model over one drawn volume; return seconds and memory, measured and computed.

    Parameters
    ----------
    model : ``model.onnx`` of a volume network, input (batch, channels, d, h, w).
    side : of the cubic volume, voxels.
    overlap : that neighbouring windows share, [0, 1).
    """
    before = peak_bytes()
    session = open_session(model, 1)
    channels, *size = session.shape
    window = np.zeros((1, channels, *size), dtype=np.float32)
    times = []
    for _ in range(SINGLE):
        start = time.perf_counter()
        labels = session.run(window).shape[1]
        times.append(time.perf_counter() - start)
    engine = peak_bytes() - before
    shape = (side,) * len(size)
    image = np.random.default_rng(0).normal(0, 1, (channels, *shape)).astype(np.float32)
    start = time.perf_counter()
    sliding(session.run, image, size, overlap, 1)
    seconds = time.perf_counter() - start
    n = windows(shape, size, overlap)
    computed = n * float(np.median(times))
    return {
        "model": "/".join(model.parts[-5:-2]), "side": side, "windows": n,
        "seconds": seconds, "seconds_computed": computed, "ratio": seconds / computed,
        "memory_mb": (peak_bytes() - before) / 1e6,
        "memory_mb_computed": engine / 1e6 + arrays_mb(shape, size, channels, labels),
    }  # fmt: skip


def main() -> None:
    """Print a row per model and side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES)
    parser.add_argument("--overlap", type=float, default=OVERLAP)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        print(json.dumps(measure(args.models[0], args.sides[0], args.overlap)))
        return
    print("| model | side | windows | s | s computed | ratio | MB | MB computed |")
    print("|" + "---|" * 8)
    for model in args.models:
        for side in args.sides:
            command = [sys.executable, __file__, str(model), "--here"]
            settings = ["--sides", str(side), "--overlap", str(args.overlap)]
            done = subprocess.run([*command, *settings], stdout=subprocess.PIPE, check=True)
            r = json.loads(done.stdout)
            print(
                f"| {r['model']} | {r['side']} | {r['windows']} | {r['seconds']:.2f} | "
                f"{r['seconds_computed']:.2f} | {r['ratio']:.2f} | {r['memory_mb']:.0f} | "
                f"{r['memory_mb_computed']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
