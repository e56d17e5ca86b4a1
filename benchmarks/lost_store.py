"""Lose the tracking store again and again while a sweep posts, and count what arrives.

``python benchmarks/lost_store.py --folder NEW --times 10 [--backend postgresql://..]``: a server is killed and started again while two
folders post to it; then a local store's disk is full, and then read-only (both need root, for a small file system of its own).
Prints a line each; ends with 1 if a run is lost or doubled.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from mlflow.tracking import MlflowClient
from tracking_server import Server
from tracking_world import World

from edgeward.tracking.outbox import pending

RUNS = 10  # of two candidates of one model: two rows, and four stages of each


def deliverer(world: World, uri: str, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edgeward.tracking.deliver", "--outbox", str(world.outbox)]
    with (world.root / "deliver.log").open("ab") as log:
        return subprocess.Popen(
            [*command, "--uri", uri, "--experiment", "e", *options], stderr=log, stdout=log
        )


def until(condition, limit_s: float = 600) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("waited too long")
        time.sleep(0.2)


def post(world: World) -> None:
    world.candidate("fp32", "reference")
    world.candidate("ptq_int8")


def count(uri: str, folders: int, models: int) -> int:
    """Print how many runs are missing or there twice; return their number."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("e")
    runs = client.search_runs([experiment.experiment_id], max_results=10_000)
    keys = Counter((r.data.tags["edgeward.study"], r.data.tags["edgeward.key"]) for r in runs)
    lost, doubled = folders * models * RUNS - len(keys), sum(n > 1 for n in keys.values())
    print(f"  {len(runs)} runs of {folders} folders: {lost} lost, {doubled} doubled", flush=True)
    return lost + doubled


def lost_server(folder: Path, times: int, backend: str | None) -> int:
    """Kill a server `times` times while two folders post."""
    server = Server(folder, backend)
    server.start()
    until(server.up)
    worlds = [folder / "a", folder / "b"]
    sweep = str(os.getpid())
    for root in worlds:
        root.mkdir()
    running = [deliverer(World(root), server.uri, "--follow", sweep) for root in worlds]
    for number in range(times):
        for root in worlds:
            post(World(root, model=f"m{number}"))
        left = len(pending(World(worlds[0]).outbox))
        until(lambda most=left: len(pending(World(worlds[0]).outbox)) < most)
        server.kill()
        time.sleep(1 + number % 3)
        server.start()
        until(server.up)
        print(f"server lost and back {number + 1} times", flush=True)
    until(lambda: not any(pending(World(root).outbox) for root in worlds), 1800)
    for process in running:
        process.terminate()
        process.wait()
    bad = count(server.uri, 2, times)
    bad += sum(len(list((World(root).outbox / "failed").glob("*.json"))) for root in worlds)
    server.kill()
    return bad


@contextmanager
def small(place: Path, size: str) -> Iterator[None]:
    """Mount a small file system."""
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def no_room(folder: Path) -> int:
    """Deliver to a store whose disk is full, then read-only, then as it should be."""
    world, place = World(folder / "work"), folder / "disk"
    world.root.mkdir(parents=True)
    with small(place, "8m"):
        uri = f"sqlite:///{place}/mlflow.db"
        bad = int(deliverer(world, uri, "--init").wait() != 0)
        post(world)
        entries = len(pending(world.outbox))
        filler = place / "filler"
        subprocess.run(
            ["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], stderr=subprocess.DEVNULL, check=False
        )
        for what, make, unmake in (
            ("full", lambda: None, filler.unlink),
            ("read-only", lambda: remount(place, "ro"), lambda: remount(place, "rw")),
        ):
            make()
            deliverer(world, uri, "--drain-timeout", "5").wait()
            left, refused = (
                len(pending(world.outbox)),
                len(list((world.outbox / "failed").glob("*.json"))),
            )
            print(f"disk {what}: {left} of {entries} entries wait, {refused} refused", flush=True)
            bad += refused
            unmake()
        bad += deliverer(world, uri).wait() != 0
        return bad + count(uri, 1, 1)


def remount(place: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", place], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="must be new")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--backend", help="of the server; a SQLite file if not given")
    options = parser.parse_args()
    folder = options.folder.resolve()
    (folder / "server").mkdir(parents=True)
    bad = lost_server(folder / "server", options.times, options.backend)
    bad += no_room(folder / "room") if os.geteuid() == 0 else 0
    print(f"{bad} bad")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
