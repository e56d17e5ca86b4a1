"""Kill a sweep at random moments, start it again until it is done, and compare with one that nobody disturbed.

``python benchmarks/kills.py --sweeps smoke segmentation_smoke --kills 50``: SIGKILL, SIGTERM and SIGINT in turn, at the
workflow's process alone, as a scheduler or an impatient user does. Nothing is done by hand between kill and restart. Prints
one line a kill and a summary; ends with 1 if a byte of a result differs, a counted job was done twice, or a process outlives its workflow.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from workspace import Workspace, copy_project

COMPARED = ("model.onnx", "model.pt", "verdict.json", "safety.json")
# Until nothing is left: after SIGKILL by itself, otherwise once the table is printed and what was delivered is done.
GONE_S = {True: 15.0, False: 30.0}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
JOB, COUNTED = re.compile(r"^Job (\d+): (.+)$"), re.compile(r"^Finished jobid: (\d+)")
SAID_DONE = re.compile(r"^\[(.+?)\] .* done in \d+ s$")


@dataclass
class Round:
    """One start, until it was killed or done."""

    killed_by: str | None = None
    after_s: float = 0.0
    first_job_s: float | None = None
    gone_s: float | None = None
    taken_over: bool = False
    started: list[str] = field(default_factory=list)
    counted: list[str] = field(default_factory=list)
    said_done: list[str] = field(default_factory=list)


def processes(folder: Path) -> list[psutil.Process]:
    """Return the processes whose working directory is `folder`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()) == folder:
                found.append(process)
    return found


def start(workspace: Workspace, sweep: str, log: Path) -> subprocess.Popen[bytes]:
    """Start the sweep as the README says."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--config", f"sweep={sweep}"]
    with log.open("wb") as out:
        return subprocess.Popen(
            command,
            cwd=workspace.root,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def read(log: Path, into: Round) -> None:
    """Note what a start has printed."""
    jobs: dict[str, str] = {}
    for line in log.read_text(errors="replace").splitlines():
        if found := JOB.match(line):
            jobs[found[1]] = found[2]
            into.started.append(found[2])
        elif found := COUNTED.match(line):
            into.counted.append(jobs.get(found[1], found[1]))
        elif found := SAID_DONE.match(line):
            into.said_done.append(found[1])
        into.taken_over |= line.startswith("Taken over")


def one(
    workspace: Workspace,
    sweep: str,
    number: int,
    at_s: float | None,
    how: signal.Signals,
    limit_s: float,
) -> Round:
    """Start the sweep; kill it `at_s` seconds after its first job has begun (if negative: after its start), if it is not done by then."""
    log, result = workspace.root.parent / f"{sweep}-{number}.log", Round()
    began = time.monotonic()
    process = start(workspace, sweep, log)
    while process.poll() is None and time.monotonic() - began < limit_s:
        text = log.read_text(errors="replace")
        if result.first_job_s is None and "\nJob " in text:
            result.first_job_s = round(time.monotonic() - began, 1)
        reached = began if (at_s or 0) < 0 else began + (result.first_job_s or limit_s)
        if at_s is not None and time.monotonic() - reached >= abs(at_s):
            process.send_signal(how)
            result.killed_by, killed = how.name, time.monotonic()
            result.after_s = round(killed - began, 1)
            process.wait()
            while processes(workspace.root) and time.monotonic() - killed < 120:
                time.sleep(0.05)
            result.gone_s = round(time.monotonic() - killed, 1)
            break
        time.sleep(0.1)
    read(log, result)
    return result


def differing(mine: Workspace, other: Workspace) -> list[str]:
    """Return the results that are not the same to the byte, but for those that hold times."""
    names = [p.relative_to(other.root) for n in COMPARED for p in (other.root / "results").rglob(n)]
    return [
        str(name)
        for name in sorted(names)
        if not (mine.root / name).is_file()
        or (mine.root / name).read_bytes() != (other.root / name).read_bytes()
    ]


def main() -> int:
    """Run it; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", nargs="+", default=["smoke", "segmentation_smoke"])
    parser.add_argument("--kills", type=int, default=50, help="in all")
    parser.add_argument("--folder", type=Path, required=True, help="must be new")
    parser.add_argument(
        "--undisturbed", type=Path, help="where the sweep has run before, to compare with"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--longest",
        type=float,
        default=120.0,
        help="seconds until a kill, from the first job on; some come before",
    )
    options = parser.parse_args()
    draw, bad, rounds = random.Random(options.seed), 0, []
    left = options.kills
    for sweep in options.sweeps:
        if options.undisturbed:
            undisturbed = Workspace(options.undisturbed.resolve())
        else:
            undisturbed = copy_project(
                options.folder.resolve() / f"{sweep}-undisturbed" / "project"
            )
            one(undisturbed, sweep, 0, None, signal.SIGKILL, 7200)
        share = left if sweep == options.sweeps[-1] else options.kills // len(options.sweeps)
        number = 0
        while share > 0:
            number += 1
            workspace = copy_project(options.folder.resolve() / f"{sweep}-{number}" / "project")
            counted: list[str] = []
            for turn in range(10_000):
                at = draw.uniform(-0.25, 1.0) * options.longest if share > 0 else None
                found = one(workspace, sweep, turn, at, SIGNALS[turn % len(SIGNALS)], 7200)
                again = sorted({*counted} & {*found.started})
                counted += found.counted
                rounds.append(found)
                share -= found.killed_by is not None
                left -= found.killed_by is not None
                said = (
                    f"{sweep} {number}.{turn}: {found.killed_by or 'done'} after {found.after_s} s"
                )
                said += f", first job after {found.first_job_s} s, all gone after {found.gone_s} s"
                said += ", lock taken over" * found.taken_over
                print(said + (f", DONE AGAIN: {again}" if again else ""), flush=True)
                bad += bool(again) + ((found.gone_s or 0) > GONE_S[found.killed_by == "SIGKILL"])
                if found.killed_by is None:
                    break
            unequal = differing(workspace, undisturbed)
            bad += bool(unequal)
            print(
                f"{sweep} {number}: {'DIFFERS: ' + ', '.join(unequal) if unequal else 'same bytes'}",
                flush=True,
            )
    killed = [r for r in rounds if r.killed_by]
    summary = {
        "kills": len(killed),
        "slowest_gone_s": max((r.gone_s or 0 for r in killed), default=None),
        "first_job_s": sorted(r.first_job_s for r in rounds if r.first_job_s is not None),
        "locks_taken_over": sum(r.taken_over for r in rounds),
        "bad": bad,
    }
    print(json.dumps(summary, indent=2))
    (options.folder / "rounds.json").write_text(json.dumps([asdict(r) for r in rounds], indent=1))
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
