"""Run cases of the corpus, each in a process of its own with limits, and say what came of each.

``python tests/fuzz/harness.py --cases 1000 --seed 0 --jobs 2`` prints the table of counts, and every case that is not as it should be.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import nibabel  # noqa: F401  what readers load is loaded once, before processes are forked
import pydicom.pixels  # noqa: F401
import scipy.ndimage  # noqa: F401
from corpus import Case, corpus
from worlds import WORLDS

from edgeward.core.errors import UserError
from edgeward.data import stage
from edgeward.data.config import DataConfig
from edgeward.data.sources import medmnist
from edgeward.data.store import open_prepared

KINDS = ("refused", "accepted", "traceback", "hang", "over memory", "died", "unnamed", "wrongly accepted", "wrongly refused")  # fmt: skip
FINE = ("refused", "accepted")
SECONDS = 120  # of the processor; a case that waits for ever is ended after ten times as many
GIB = 4.0
_CEILING = 10 << 30  # bytes of address space, so that this machine lives


@dataclass(frozen=True)
class Outcome:
    """What came of a case; `said` is the message, or the traceback."""

    name: str
    source: str
    kind: str
    said: str
    seconds: float
    processor: float
    gib: float


def _prepare(case: Case, root: Path, seed: int) -> tuple[str, str]:
    """Run a case in this process: what it came to, and what was said."""
    values = case.build(root, np.random.default_rng(seed))
    if case.check is not None:
        try:
            case.check(root)
        except UserError as error:
            return "refused", str(error)
        return "accepted", ""
    medmnist._md5 = lambda path: medmnist.catalogue()["breastmnist"]["MD5"]
    try:
        cfg = DataConfig(**values)
    except ValueError as error:
        return "refused", str(error)
    try:
        stage.run(cfg, out=root / "out", data_root=root)
    except UserError as error:
        return "refused", str(error)
    data = open_prepared(root / "out")
    wrong = _impossible(data)
    return ("wrongly accepted", wrong) if wrong else ("accepted", "")


def _impossible(data: object) -> str:
    """Return what no prepared set may be, or ""."""
    card, images = data.card, np.asarray(data.images, np.float32)  # type: ignore[attr-defined]
    numbers = [*card.channel_mean, *card.channel_std, *card.train_prior]
    if any(v is None or not np.isfinite(v) for v in numbers):
        return "the card has a number that is none"
    if not np.isfinite(images).all() or images.min() < 0 or images.max() > 255:
        return "pixels outside of 0 to 255"
    return ""


def _child(case: Case, seed: int, root: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_CEILING, _CEILING))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        kind, said = _prepare(case, root, seed)
    except BaseException:
        kind, said = "traceback", traceback.format_exc()
    (root / "outcome.json").write_text(json.dumps([kind, said]))


def _judged(case: Case, kind: str, said: str) -> str:
    if kind == "refused" and case.expect == "accept":
        return "wrongly refused"
    if kind == "accepted" and case.expect == "refuse":
        return "wrongly accepted"
    if kind == "refused" and not all(word in said for word in case.words):
        return "unnamed"
    return kind


def run(cases: Sequence[Case], seed: int, jobs: int) -> Iterator[Outcome]:
    """Run cases, so many at a time."""
    waiting = list(enumerate(cases))[::-1]
    running: dict[int, tuple[Case, Path, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            number, case = waiting.pop()
            root = Path(tempfile.mkdtemp(prefix="edgeward_fuzz_"))
            pid = os.fork()
            if pid == 0:
                _child(case, seed + number, root)
                os._exit(0)
            running[pid] = (case, root, time.monotonic())
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        if pid == 0:
            for late, (_, _, since) in running.items():
                if time.monotonic() - since > 10 * SECONDS:
                    os.kill(late, signal.SIGKILL)
            time.sleep(0.005)
            continue
        case, root, since = running.pop(pid)
        took, gib = time.monotonic() - since, usage.ru_maxrss / (1 << 20)
        told = root / "outcome.json"
        kind, said = json.loads(told.read_text()) if told.exists() else ("died", f"status {status}")
        if kind == "died" and (
            took > 10 * SECONDS or usage.ru_utime + usage.ru_stime > SECONDS - 1
        ):
            kind = "hang"
        elif gib > GIB or (kind == "traceback" and "MemoryError" in said):
            kind = "over memory"
        shutil.rmtree(root, ignore_errors=True)
        used = usage.ru_utime + usage.ru_stime
        yield Outcome(case.name, case.source, _judged(case, kind, said), said, took, used, gib)


def shown(outcomes: Sequence[Outcome]) -> str:
    """Return the counts by source, and what is not as it should be."""
    rows = Counter((o.source, o.kind) for o in outcomes)
    sources = sorted({o.source for o in outcomes})
    lines = ["| source | cases | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 2) + "|"]
    for source in [*sources, "all"]:
        counts = [sum(n for (s, k), n in rows.items() if k == kind and source in (s, "all")) for kind in KINDS]  # fmt: skip
        lines.append(f"| {source} | {sum(counts)} | " + " | ".join(map(str, counts)) + " |")
    lines += [
        f"\n{o.source} {o.name}: {o.kind} ({o.seconds:.1f} s, {o.gib:.1f} GiB)\n  {o.said.strip()[-900:]}"
        for o in outcomes
        if o.kind not in FINE
    ]
    return "\n".join(lines)


def _warm() -> None:
    """Import what cases need, and compose the configs, once for all processes that are forked."""
    for module in (Path(stage.__file__).parent / "sources").glob("[a-z]*.py"):
        importlib.import_module(f"edgeward.data.sources.{module.stem}")
    for number, world in enumerate(WORLDS.values()):
        with tempfile.TemporaryDirectory() as root:
            values = world(Path(root), np.random.default_rng(number))
            if number == 0:
                stage.run(DataConfig(**values), out=Path(root) / "out", data_root=Path(root))


def sample(cases: Sequence[Case], n: int) -> list[Case]:
    """Return n of the cases, the same ones each time, of every source as many as its share."""
    order = np.random.default_rng(0).permutation(len(cases))
    mixed = sorted(order, key=lambda i: cases[i].source)
    return [cases[i] for i in mixed[:: max(1, len(cases) // n)]][:n]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=300, help="of all known ones and mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="part of a name")
    parser.add_argument(
        "--json", type=Path, help="file that all outcomes are appended to, one a line"
    )
    parser.add_argument("--sample", type=int, default=0, help="only so many, spread over all, none that takes seconds")  # fmt: skip
    asked = parser.parse_args()
    if asked.json:
        asked.json.unlink(missing_ok=True)
    _warm()
    cases = [c for c in corpus(asked.cases, asked.seed) if asked.only in f"{c.source} {c.name}"]
    if asked.sample:
        cases = sample([c for c in cases if not c.heavy], asked.sample)
    outcomes = []
    for outcome in run(cases, asked.seed, asked.jobs):
        outcomes.append(outcome)
        if asked.json:
            with asked.json.open("a") as handle:
                handle.write(json.dumps(asdict(outcome)) + "\n")
    print(shown(outcomes))


if __name__ == "__main__":
    main()
