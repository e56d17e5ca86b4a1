"""Deliver to a local store whose disk is full, then read-only, then as it should be: ``python benchmarks/full_disk.py NEW_FOLDER``.

Needs root, for a small file system of its own. Ends with 1 if an entry is lost, doubled or given up.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from mlflow.tracking import MlflowClient
from tracking_world import World

from edgeward.tracking.outbox import pending


def deliver(world: World, uri: str, *options: str) -> int:
    command = [sys.executable, "-m", "edgeward.tracking.deliver", "--outbox", str(world.outbox)]
    with (world.root / "deliver.log").open("ab") as log:
        return subprocess.call(
            [*command, "--uri", uri, "--experiment", "e", *options], stderr=log, stdout=log
        )


def mounted(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", options, "-t", "tmpfs", "tmpfs", place], check=True)


def main() -> int:
    root = Path(sys.argv[1]).resolve()
    world, place = World(root / "work"), root / "disk"
    for folder in (world.root, place):
        folder.mkdir(parents=True)
    mounted(place, "size=16m")
    try:
        uri = f"sqlite:///{place}/mlflow.db"
        deliver(world, uri, "--init")
        world.candidate("fp32", "reference")
        world.candidate("ptq_int8")
        entries, given_up = len(pending(world.outbox)), 0
        for what in ("full", "read-only"):
            if what == "full":
                fill = ["dd", "if=/dev/zero", f"of={place}/filler", "bs=4k"]
                subprocess.run(fill, stderr=subprocess.DEVNULL, check=False)
            else:
                mounted(place, "remount,ro")
            deliver(world, uri, "--drain-timeout", "5")
            given_up += len(list((world.outbox / "failed").glob("*.json")))
            print(
                f"{what}: {len(pending(world.outbox))} of {entries} wait, {given_up} given up",
                flush=True,
            )
            if what == "full":
                (place / "filler").unlink()
            else:
                mounted(place, "remount,rw")
        status = deliver(world, uri)
        client = MlflowClient(uri)
        runs = client.search_runs([client.get_experiment_by_name("e").experiment_id])
        keys = Counter(run.data.tags["edgeward.key"] for run in runs)
        stages = sum(run.data.tags["edgeward.kind"] == "stage" for run in runs)
        doubled = sum(n > 1 for n in keys.values())
        print(f"room again: {stages} of {entries} arrived, {doubled} doubled, status {status}")
        return int(bool(given_up or doubled or status or stages != entries))
    finally:
        subprocess.run(["umount", "-l", place], check=True)


if __name__ == "__main__":
    sys.exit(main())
