"""Delivery to an MLflow server whose database is PostgreSQL, while both are killed: ``python benchmarks/tracking.py``.

So many candidates post their four stages into an outbox; the deliverer empties it into a server that is killed with its
database, in turns, as often as asked. Then every run is counted. Needs PostgreSQL's own programs (``--postgres`` names their
folder) and psycopg2; ``--sqlite`` keeps the server's store in a file instead.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import IO

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from tracking_world import World

from edgeward.tracking.outbox import pending

STAGES = ("compress", "export", "profile", "assess")
RECIPES = 10


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Killable:
    """A program of a process group of its own."""

    def __init__(self, command: list[str], log: Path, user: str | None = None) -> None:
        self.command, self.log, self.user = command, log, user
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            quiet = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                env=quiet,
                user=self.user,
                start_new_session=True,
            )

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, how)
            self.process.wait()
            self.process = None


def database(root: Path, programs: Path) -> tuple[Killable, str]:
    """Make a PostgreSQL cluster; return its server and MLflow's address of it."""
    # PostgreSQL does not run as root.
    user = "postgres" if os.getuid() == 0 else None
    at = root / "postgres"
    at.mkdir()
    if user:
        os.chown(at, pwd.getpwnam(user).pw_uid, -1)
        for above in (root, *root.parents[:-2]):
            above.chmod(above.stat().st_mode | 0o055)
    subprocess.run(
        [programs / "initdb", "-D", at / "data", "-U", "edgeward", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"],
        user=user, check=True, stdout=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    port = free_port()
    command = [
        str(programs / "postgres"),
        "-D",
        str(at / "data"),
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-k",
        str(at),
    ]
    log = root / "postgres.log"
    log.touch()
    return Killable(command, log, user), f"postgresql://edgeward@127.0.0.1:{port}/postgres"


def until_up(uri: str, limit_s: float = 300) -> float:
    """Wait until the server answers a question that takes its database; return the seconds."""
    since = time.monotonic()
    ask = urllib.request.Request(
        f"{uri}/api/2.0/mlflow/experiments/search",
        data=b'{"max_results": 1}',
        headers={"Content-Type": "application/json"},
    )
    while time.monotonic() - since < limit_s:
        try:
            with urllib.request.urlopen(ask, timeout=10):
                return time.monotonic() - since
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"{uri} does not answer")


def post(root: Path, candidates: int) -> None:
    """Post everything of so many candidates: ten recipes a model."""
    for number in range(candidates):
        world = World(root, "phantom", f"model{number // RECIPES:03d}")
        if number % RECIPES == 0:
            world.train()
        world.candidate(f"recipe{number % RECIPES}", "pass" if number % RECIPES else "reference")


def count(uri: str, candidates: int) -> dict[str, int]:
    """Count what arrived, against what was posted."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    [experiment] = client.search_experiments(filter_string="name = 'edgeward'")
    runs, token = [], None
    while True:
        page = client.search_runs([experiment.experiment_id], max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            break
    keys = Counter((r.data.tags["edgeward.kind"], r.data.tags["edgeward.key"]) for r in runs)
    models = -(-candidates // RECIPES)
    expected = {
        ("candidate", f"phantom/model{n // RECIPES:03d}/s0/recipe{n % RECIPES}")
        for n in range(candidates)
    }
    expected |= {("stage", f"phantom/model{n:03d}/s0/train") for n in range(models)}
    for _, key in [pair for pair in expected if pair[0] == "candidate"]:
        expected |= {("stage", f"{key}/{s}" + ("/host" if s == "profile" else "")) for s in STAGES}
    versions = sum(
        len(client.search_model_versions(f"name='{m.name}'")) for m in _registered(client)
    )
    return {
        "runs": len(runs),
        "expected": len(expected),
        "lost": len(expected - set(keys)),
        "doubled": sum(n - 1 for n in keys.values()),
        "unexpected": len(set(keys) - expected),
        "unfinished": sum(r.info.status != "FINISHED" for r in runs),
        "model versions": versions,
        "passes": candidates - models,
    }


def _registered(client) -> list:  # type: ignore[no-untyped-def]
    found, token = [], None
    while True:
        page = client.search_registered_models(max_results=500, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument(
        "--restarts", type=int, default=10, help="how often server or database are killed, in turns"
    )
    parser.add_argument("--away", type=float, default=5.0, help="seconds that they stay away")
    parser.add_argument("--postgres", type=Path, default=Path("/usr/lib/postgresql/15/bin"))
    parser.add_argument("--sqlite", action="store_true", help="a file instead of PostgreSQL")
    parser.add_argument(
        "--keep", type=Path, help="keep store and server in this new folder, and the server running"
    )
    options = parser.parse_args()
    if not options.sqlite and find_spec("psycopg2") is None:
        sys.exit("PostgreSQL needs its driver: pip install psycopg2-binary, or --sqlite")
    root = options.keep or Path(tempfile.mkdtemp(prefix="edgeward_tracking_"))
    root.mkdir(exist_ok=True, parents=True)
    if options.sqlite:
        base, backend = None, f"sqlite:///{root}/server.db"
    else:
        base, backend = database(root, options.postgres)
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    server = Killable(
        [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--backend-store-uri", backend,
         "--artifacts-destination", str(root / "artifacts"), "--host", "127.0.0.1", "--port", str(port)],
        root / "server.log",
    )  # fmt: skip
    log: IO[bytes] = (root / "deliver.log").open("ab")
    outbox = root / ".edgeward" / "outbox"
    try:
        begun = time.monotonic()
        post(root, options.candidates)
        total = len(pending(outbox))
        print(
            f"{options.candidates} candidates, {total} entries posted in {time.monotonic() - begun:.0f} s",
            flush=True,
        )
        if base:
            base.start()
        server.start()
        print(f"the server answered after {until_up(uri):.0f} s, its tables made", flush=True)
        begun = time.monotonic()
        deliverer = subprocess.Popen(
            [sys.executable, "-m", "edgeward.tracking.deliver", "--outbox", str(outbox), "--uri", uri,
             "--experiment", "edgeward", "--follow", str(os.getpid())],
            stdout=log, stderr=log,
        )  # fmt: skip
        killed: Counter[str] = Counter()
        for turn in range(options.restarts):
            goal = total * (options.restarts - turn) / (options.restarts + 1)
            while len(pending(outbox)) > goal:
                time.sleep(0.5)
            victim = base if base and turn % 2 else server
            killed["database" if victim is base else "server"] += 1
            victim.kill()
            time.sleep(options.away)
            victim.start()
            print(
                f"killed {dict(killed)}, {len(pending(outbox))} entries left, back after {until_up(uri):.1f} s",
                flush=True,
            )
        while pending(outbox):
            time.sleep(0.2)
        took = time.monotonic() - begun
        deliverer.send_signal(signal.SIGTERM)
        deliverer.wait(120)
        times = [
            float(s)
            for s in re.findall(r"delivered .* in ([\d.]+) s", (root / "deliver.log").read_text())
        ]
        times.sort()
        print(
            f"{total} entries in {took:.0f} s with {dict(killed)} killed; an entry takes {times[len(times) // 2]:.2f} s "
            f"(median), {times[int(0.95 * len(times))]:.2f} s (95th of 100); first and last tenth alike? "
            f"see deliver.log"
        )
        since = time.monotonic()
        counts = count(uri, options.candidates)
        print(json.dumps(counts), f"(asked for in {time.monotonic() - since:.1f} s)")
        if options.keep:
            print(f"{uri} runs until this is interrupted")
            signal.pause()
        wrong = {k: counts[k] for k in ("lost", "doubled", "unexpected", "unfinished") if counts[k]}
        if wrong or counts["model versions"] != counts["passes"]:
            sys.exit(f"not everything arrived once: {counts}")
    finally:
        server.kill()
        if base:
            base.kill(signal.SIGQUIT)
        if not options.keep:
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
