"""What surrounds every stage: the worker, log, start-up time, config and metrics files, tracking entry.

The process that Snakemake starts only hands its script over where it can, so what a job needs is imported in functions.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.pipeline import worker
from edgeward.pipeline.paths import OUTBOX, WORK, Stage
from edgeward.pipeline.work import claim

if TYPE_CHECKING:
    from edgeward.tracking.entry import StageEntry, UsedData

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of getrusage
HEAVY = {".npy", ".npz", ".pt", ".pt2"}
REFUSED = {errno.EACCES, errno.EPERM}  # writing, by the rights of a folder
TOLD = {".json", ".csv", ".yaml", ".md"}  # outputs that may say why a stage failed


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
    code: str = ""
    startup_s: float = 0.0

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
            code=getattr(snakemake.params, "code", ""),
        )

    @property
    def label(self) -> str:
        """Name of the job in logs: stage and candidate."""
        return f"{self.stage} {'/'.join(self.wildcards.values())}"

    def paths(self, name: str) -> list[Path]:
        """Return the files of an input that is a list."""
        return [Path(path) for path in self.input[name]]

    def _entry(self, **kwargs: Any) -> StageEntry:
        from edgeward.tracking.entry import StageEntry

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
        from edgeward.tracking.outbox import LiveCurve

        curve = LiveCurve(OUTBOX, self._entry(folder=Path(self.output.metrics).parent.resolve()))
        return curve.log

    def work(self, *inputs: Path) -> Path:
        """Return the folder of resumable state, keyed by the stage's slice and code and the content of `inputs`.

        It is not a declared output, so Snakemake does not delete it before the job starts again; once Snakemake has
        counted the job, the workflow does.
        """
        from edgeward.core.io import digest, sha256

        made_of = [self.stage, self.wildcards, self.cfg, self.code, [sha256(p) for p in inputs]]
        return claim(WORK / f"{self.stage}-{digest(made_of)[:20]}", Path(self.output.metrics))

    def loaded(self) -> None:
        """Note that the stage's imports are done: the time since Snakemake started the process is start-up."""
        import psutil

        self.startup_s = time.time() - psutil.Process(worker.client()).create_time()

    def execute(
        self,
        main: Callable[[Job], dict[str, float]],
        *,
        tracked: bool = True,
        alone: bool = False,
    ) -> None:
        """Run `main`, then write config.yaml and metrics.json and, if tracked, post the entry.

        Everything that libraries print goes to the job's log; messages of the stage itself also go
        to the terminal. An error ends the job with status 1 and one line in the terminal: the message of a `UserError`,
        or type and message of another one, whose traceback is in the log. Why it failed, and what it had written that
        may tell more, stays in the folder ``failed`` beside its outputs until the job runs again.

        Parameters
        ----------
        alone : in a process that has nothing but what the stage itself loads, as what measures needs it.
        """
        why = "" if alone else worker.hand_over(self.stage)
        if worker.client() is None:
            worker.end_with_workflow()
        from edgeward.core.errors import NO_ROOM, UserError, one_line
        from edgeward.core.io import write_json, write_yaml

        _redirect(self.log, self.label)
        self._forget_failure()
        logger = logging.getLogger("edgeward.job")
        if why:
            logger.info("in a process of its own: %s", why)
        started = time.time()
        try:
            metrics = main(self)
        except UserError as error:
            logger.error("%s", error)
            self._keep_failure(str(error), foreseen=True)
            sys.exit(1)
        except (
            SystemExit
        ) as ended:  # of a library that was told to end (SIGTERM), even with status 0
            logger.error("%s was ended before it was done", self.label)
            sys.exit(ended.code or 1)
        except Exception as error:
            logging.getLogger("traceback").exception("%s failed", self.label)
            known = isinstance(error, OSError) and error.errno in NO_ROOM | REFUSED
            said = one_line(error) or "no message"
            if known:
                reason = f"{said}. Make room, or the folder writable; nothing half-written is left."
            else:
                reason = f"{type(error).__name__}: {said}"
            logger.error("%s (%s)", reason, os.path.relpath(self.log))
            self._keep_failure(reason, foreseen=known)
            sys.exit(1)
        finished = time.time()
        metrics = {**metrics, "startup_s": self.startup_s, "wall_s": finished - started, **_used()}
        write_yaml(Path(self.output.config), self.cfg)
        write_json(Path(self.output.metrics), metrics)
        if tracked:
            self._track(metrics, started, finished, logger)
        logger.info("%s done in %.0f s", self.label, finished - started)

    @property
    def _failure(self) -> Path:
        return Stage.failure(Path(self.output.metrics))

    def _forget_failure(self) -> None:
        from edgeward.core.errors import UserError
        from edgeward.records.failure import Failure

        try:
            kept = Failure.read(self._failure).kept
        except UserError:
            kept = []
        for name in (*kept, self._failure.name):
            (self._failure.parent / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # there was none, or another device's is there
            self._failure.parent.rmdir()

    def _keep_failure(self, reason: str, *, foreseen: bool) -> None:
        """Write why the stage failed, with those of its outputs that may tell more: Snakemake removes all of them."""
        from edgeward.records.failure import Failure

        told = [p for p in map(Path, self.output) if p.is_file() and p.suffix in TOLD]
        try:
            self._failure.parent.mkdir(parents=True, exist_ok=True)
            for path in told:
                shutil.copyfile(path, self._failure.parent / path.name)
            Failure(
                format=Failure.FORMAT,
                stage=self.stage,
                of=self.wildcards,
                reason=reason,
                foreseen=foreseen,
                log=os.path.relpath(self.log),
                kept=[path.name for path in told],
            ).write(self._failure)
        except OSError as error:  # of a full disk, say: the reason is in the terminal and the log
            logging.getLogger("edgeward.job").warning("why it failed cannot be kept: %s", error)

    def _track(
        self, metrics: dict[str, float], started: float, finished: float, logger: logging.Logger
    ) -> None:
        from edgeward.core.errors import UserError
        from edgeward.tracking.outbox import post

        try:
            post(
                OUTBOX,
                self._entry(
                    folder=Path(self.output.metrics).parent.resolve(),
                    metrics={k: float(v) for k, v in metrics.items() if v is not None},
                    artifacts=self._artifacts(),
                    datasets=self._datasets(),
                    started_at=started,
                    finished_at=finished,
                    status="FINISHED",
                ),
            )
        except (OSError, UserError) as error:
            logger.warning("tracking entry of %s could not be written: %s", self.label, error)

    def _artifacts(self) -> list[Path]:
        """List the outputs that MLflow is given: files that people read, and the one that ships."""
        heavy = HEAVY if self.stage == "export" else {*HEAVY, ".onnx"}
        outputs = [Path(output).resolve() for output in self.output]
        files = [p for o in outputs for p in (sorted(o.rglob("*")) if o.is_dir() else [o])]
        return [p for p in files if p.is_file() and p.suffix not in heavy]

    def _datasets(self) -> list[UsedData]:
        from edgeward.core.io import read_json
        from edgeward.tracking.entry import UsedData

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
            **dict.fromkeys(("assess", "decide"), "test"),
        }
        purpose = context.get(self.stage, self.stage)
        return [UsedData(card["name"], card["hashes"]["images.npy"], purpose)]


def _used() -> dict[str, float]:
    """Return the processor's time, s, and the most memory, MB, that the job and its own processes have had."""
    mine, theirs = (
        resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {
        "cpu_s": sum(use.ru_utime + use.ru_stime for use in (mine, theirs)),
        "max_rss_mb": max(mine.ru_maxrss, theirs.ru_maxrss) * RSS_UNIT / 1e6,
    }


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
