"""Share of the last sweep's wall time that its jobs spent starting up: ``python benchmarks/startup.py``.

Start-up of a job is the time from the birth of its process until what its stage imports is there, as every stage
notes it in its metrics.json. What a stage imports later, where it is needed, is not in it; a sweep that is run with
PYTHONPROFILEIMPORTTIME=1 lists every import with its time in the logs. Jobs run side by side, so the sum is compared
with the wall time alone, which is strict.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from edgeward.pipeline.paths import LAST_RUN


def main() -> None:
    run = json.loads(LAST_RUN.read_text())
    begin = run["ended"] - run["wall_s"]
    spent: dict[str, list[float]] = defaultdict(list)
    for path in Path("results").rglob("*metrics.json"):
        if begin <= path.stat().st_mtime <= run["ended"] + 1:
            metrics = json.loads(path.read_text())
            if "startup_s" in metrics:
                group = next((g for g in ("scaling", "report", "devices") if g in path.parts), None)
                spent[group or path.parent.name].append(metrics["startup_s"])
    total = sum(map(sum, spent.values()))
    print(f"{'stage':10} {'jobs':>4} {'start-up, mean s':>17} {'sum s':>7}")
    for stage, times in spent.items():
        print(f"{stage:10} {len(times):4} {sum(times) / len(times):17.1f} {sum(times):7.1f}")
    print(f"sweep '{run['sweep']}': wall {run['wall_s']:.0f} s, start-up {total:.0f} s of job time")
    print(f"start-up / wall time: {total / run['wall_s']:.1%}")


if __name__ == "__main__":
    main()
