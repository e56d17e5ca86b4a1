"""What surrounds every stage: log, start-up time, config and metrics files, tracking entry."""

from __future__ import annotations

import builtins
import importlib
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from edgeward.core.errors import UserError
from edgeward.core.io import digest, read_json, sha256, write_json, write_yaml
from edgeward.tracking.outbox import LiveCurve, StageEntry, post

STATE = Path(".edgeward")
OUTBOX = STATE / "outbox"


@dataclass
class Job:
    """One stage of one candidate, as Snakemake starts it."""

    stage: str
    wildcards: dict[str, str]
    cfg: dict[str, Any]
    input: Any
    output: Any
    log: Path
    threads: int
    startup_s: float = 0.0
    _later: _ImportClock | None = None

    @classmethod
    def of(cls, stage: str, snakemake: Any) -> Job:
        """Read the job from the object that Snakemake gives to a script."""
        return cls(
            stage=stage,
            wildcards=dict(snakemake.wildcards.items()),
            cfg=snakemake.params.cfg,
            input=snakemake.input,
            output=snakemake.output,
            log=Path(snakemake.log[0]).resolve(),
            threads=snakemake.threads,
        )

    @property
    def label(self) -> str:
        """Name of the job in logs: stage and candidate."""
        return f"{self.stage} {'/'.join(self.wildcards.values())}"

    def _entry(self, **kwargs: Any) -> StageEntry:
        w = self.wildcards
        seed, size = w.get("seed"), w.get("size")
        return StageEntry(
            stage=self.stage,
            data=w.get("data"),
            model=w.get("model"),
            seed=int(seed) if seed is not None else None,
            recipe=w.get("recipe"),
            device=w.get("device"),
            sweep=w.get("sweep"),
            size=int(size) if size is not None else None,
            config=self.cfg,
            **kwargs,
        )

    def live(self) -> Callable[[int, dict[str, float]], None]:
        """Return a function that adds one point (step, metrics) to the job's live curves."""
        curve = LiveCurve(OUTBOX, self._entry(folder=Path(self.output.metrics).parent.resolve()))
        return curve.log

    def work(self, *inputs: Path) -> Path:
        """Return the folder of resumable state, keyed by the stage's slice and the content of `inputs`.

        It is not a declared output, so Snakemake does not delete it before the job starts again.
        """
        key = digest([self.stage, self.wildcards, self.cfg, [sha256(path) for path in inputs]])
        folder = STATE / "work" / f"{self.stage}-{key[:20]}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def loaded(self) -> None:
        """Note that the stage's imports are done: the time since the process began is start-up.

        Imports that happen later, where they are needed, are added by `_ImportClock`.
        """
        self.startup_s = time.time() - psutil.Process().create_time()
        self._later = _ImportClock()

    def execute(self, main: Callable[[Job], dict[str, float]], *, tracked: bool = True) -> None:
        """Run `main`, then write config.yaml and metrics.json and, if tracked, post the entry.

        Everything that libraries print goes to the job's log; messages of the stage itself also go
        to the terminal. A `UserError` ends the process with its message and no traceback.
        """
        _redirect(self.log, self.label)
        logger = logging.getLogger("edgeward.job")
        started = time.time()
        try:
            metrics = main(self)
        except UserError as error:
            logger.error("%s", error)
            logging.shutdown()
            os._exit(1)
        except Exception:
            logger.exception("%s failed", self.label)
            logging.shutdown()
            os._exit(1)
        finished = time.time()
        startup = self.startup_s + (self._later.seconds if self._later else 0.0)
        metrics = {**metrics, "startup_s": startup, "wall_s": finished - started}
        write_yaml(Path(self.output.config), self.cfg)
        write_json(Path(self.output.metrics), metrics)
        if tracked:
            self._track(metrics, started, finished, logger)
        logger.info("%s done in %.0f s", self.label, finished - started)

    def _track(
        self, metrics: dict[str, float], started: float, finished: float, logger: logging.Logger
    ) -> None:
        try:
            post(
                OUTBOX,
                self._entry(
                    folder=Path(self.output.metrics).parent.resolve(),
                    metrics={k: float(v) for k, v in metrics.items() if v is not None},
                    artifacts=[
                        Path(p).resolve()
                        for p in self.output
                        if Path(p).suffix not in {".npy", ".npz", ".pt", ".pt2"}
                    ],
                    datasets=self._datasets(),
                    started_at=started,
                    finished_at=finished,
                    status="FINISHED",
                ),
            )
        except (OSError, UserError) as error:
            logger.warning("tracking entry of %s could not be written: %s", self.label, error)

    def _datasets(self) -> list[dict[str, str]]:
        if self.stage == "prepare":
            card = read_json(Path(self.output.card))
        elif "card" in self.input.keys():  # noqa: SIM118 - Snakemake's Namedlist is not a dict
            card = read_json(Path(self.input.card))
        else:
            return []
        context = {
            "train": "train",
            "compress": "calibration",
            "export": "validation",
            "assess": "test",
        }
        return [
            {
                "name": card["name"],
                "digest": card["hashes"]["images.npy"],
                "context": context.get(self.stage, self.stage),
            }
        ]


class _ImportClock:
    """Sums the wall time of all import statements from now on, nested ones counted once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0
        builtins.__import__ = self._timed(builtins.__import__)
        importlib.import_module = self._timed(importlib.import_module)

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            self._depth += 1
            try:
                return function(*args, **kwargs)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.perf_counter() - started

        return timed


class _Prefix(logging.Formatter):
    def __init__(self, label: str) -> None:
        super().__init__(f"[{label}] %(message)s")


def _redirect(log: Path, label: str) -> None:
    """Send all output of this process to `log`, and edgeward's own messages to the terminal too."""
    log.parent.mkdir(parents=True, exist_ok=True)
    terminal = os.fdopen(os.dup(2), "w", buffering=1)
    handle = log.open("w", buffering=1)  # stays open as long as the process
    os.dup2(handle.fileno(), 1)
    os.dup2(handle.fileno(), 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    to_log = logging.StreamHandler(sys.stderr)
    to_log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[to_log], force=True)
    logging.captureWarnings(True)
    to_terminal = logging.StreamHandler(terminal)
    to_terminal.setFormatter(_Prefix(label))
    logging.getLogger("edgeward").addHandler(to_terminal)
