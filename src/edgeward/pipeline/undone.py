"""What a run of the workflow has left undone, and why: read from Snakemake's graph when the run ends."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edgeward.core.errors import UserError
from edgeward.core.text import plural
from edgeward.pipeline.paths import ResultPaths, Stage
from edgeward.records.failure import Failure, Missing, label


@dataclass(frozen=True)
class Job:
    """A job that was to be done and was not.

    Attributes
    ----------
    causes : the failures that it waits for, or its own; none if it was not reached.
    """

    stage: str
    of: dict[str, str]
    config: dict[str, Any]
    folder: Path
    failed: bool
    causes: tuple[Failure, ...]

    @property
    def label(self) -> str:
        """Name of the job."""
        return label(self.stage, self.of)


class Undone:
    """The jobs that a run has not done.

    Parameters
    ----------
    workflow : Snakemake's, once its scheduler has ended.
    """

    def __init__(self, workflow: Any) -> None:
        dag, failed = workflow.dag, workflow.scheduler.failed
        left = [job for job in dag.needrun_jobs() if not dag.finished(job)]
        single = [j for job in failed for j in (job if job.is_group() else [job])]
        self._told = {job: _told(job) for job in sorted(single, key=dag.jobid)}
        self._causes: dict[Any, set[Any]] = {}
        self._dependencies, self._left = dag.dependencies, {*left}
        self.by_output: dict[Path, Job] = {}
        self.jobs = []
        for job in left:
            if not job.output:
                continue
            causes = self._of(job)
            found = Job(
                stage=_stage(job),
                of={key: str(value) for key, value in job.wildcards.items()},
                config=dict(job.params.get("cfg") or {}),
                folder=Path(str(job.output[0])).parent,
                failed=job in self._told,
                causes=tuple(self._told[c] for c in self._told if c in causes),
            )
            self.jobs.append(found)
            self.by_output |= dict.fromkeys((Path(output) for output in job.output), found)

    def _of(self, job: Any) -> set[Any]:
        """Return the failed jobs that a job waits for, and itself if it failed."""
        if job not in self._causes:
            mine = {job} if job in self._told else set()
            before = (other for other in self._dependencies[job] if other in self._left)
            self._causes[job] = mine.union(*(self._of(other) for other in before))
        return self._causes[job]

    @property
    def failures(self) -> list[Failure]:
        """The failures of the run."""
        return [*self._told.values()]

    @cached_property
    def failed(self) -> list[Job]:
        """The jobs that failed."""
        return [job for job in self.jobs if job.failed]

    def of(self, candidate: ResultPaths) -> Job | None:
        """Return the first job of a candidate that is not done; None if all of it is, whatever devices say."""
        at = candidate
        files = (at.compress.record, at.export.onnx, at.assess.verdict)
        return next((self.by_output[f] for f in files if f in self.by_output), None)

    def on(self, candidate: ResultPaths) -> dict[str, Job]:
        """Return the jobs that are not done on devices, of a candidate that is done itself; a device's first."""
        at = candidate
        files = [(d, path) for d, path in at.profiles.items()]
        files += [(d, on.verdict) for d, on in at.decided.items()]
        found: dict[str, Job] = {}
        for device, path in files:
            if path in self.by_output:
                found.setdefault(device, self.by_output[path])
        return found

    def missing(self, candidates: Iterable[ResultPaths]) -> list[Missing]:
        """Return what failures keep from the candidates; not what was merely not reached."""
        found = []
        for at in candidates:
            whole = self.of(at)
            jobs = {None: whole} if whole else self.on(at)
            found += [
                Missing(
                    *(at.data, at.model, at.seed, at.recipe, device),
                    *(job.stage, job.config, job.folder, job.causes),
                )
                for device, job in jobs.items()
                if job.causes
            ]
        return found

    def present(self, candidates: Iterable[ResultPaths]) -> list[ResultPaths]:
        """Return the candidates that are done, each with the devices that have measured it."""
        found = []
        for at in candidates:
            if self.of(at) is None:
                devices = tuple(d for d, path in at.profiles.items() if path not in self.by_output)
                deciding = tuple(
                    d for d, on in at.decided.items() if on.verdict not in self.by_output
                )
                found.append(replace(at, devices=devices, deciding=deciding))
        return found

    @property
    def besides(self) -> list[str]:
        """What else failures keep from the sweep, in sentences: what several candidates are in, and untrained networks."""
        found = []
        for job in self.jobs:
            if job.causes and job.stage in ("interleave", "pool", "scaling", "scaling_profile"):
                why = (
                    job.causes[0].reason
                    if job.failed
                    else f"{plural(len(job.causes), 'stage')} that it needs failed"
                )
                found.append(f"{job.label} was not done: {why}")
        return found

    def done(self, files: Iterable[Path]) -> list[Path]:
        """Return those of some files that are as they should be."""
        return [path for path in files if path not in self.by_output]


def _stage(job: Any) -> str:
    return Path(str(job.rule.script or job.rule.name)).stem


def _told(job: Any) -> Failure:
    """Return why a job failed: as it said itself, or that it said nothing."""
    log = os.path.relpath(job.log[0]) if job.log else "its log"
    try:
        return Failure.read(Stage.failure(Path(job.output.metrics)))
    except (UserError, AttributeError):
        return Failure(
            format=Failure.FORMAT,
            stage=_stage(job),
            of={key: str(value) for key, value in job.wildcards.items()},
            reason="It ended without a word: killed, as for want of memory, or by somebody.",
            foreseen=False,
            log=log,
        )
