"""One experiment of the store: finding runs by what they stand for, and making them."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from edgeward.core.io import read_json, write_json
from edgeward.tracking.entry import Identity
from edgeward.tracking.store import runs_with

STUDY = "edgeward.study"
Tags = Mapping[str, str | int | None]


def sequence(run: Run) -> int:
    """Return the sequence number of the entry or curve that a run stands for."""
    return int(run.data.tags.get("edgeward.sequence", 0))


def delivered(run: Run) -> bool:
    """Tell whether a run belongs to a posted entry, not to a curve alone."""
    return "edgeward.entry_id" in run.data.tags


def stage_tags(identity: Identity, parent: str | None) -> Tags:
    """Return the tags by which a stage's run is found."""
    return {
        "edgeward.kind": "stage",
        "edgeward.key": identity.key,
        **{f"edgeward.{name}": value for name, value in identity.of.items()},
        "mlflow.parentRunId": parent,
    }


def study_of(outbox: Path) -> str:
    """Return what tells the working directory of an outbox from others on the same server, made when it is new.

    It goes with the folder where that is moved; a copy of the folder gets another one.
    """
    file, inode = outbox / "study.json", outbox.stat().st_ino
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        content = read_json(file)
        if content["inode"] == inode:
            return str(content["study"])
    study = uuid.uuid4().hex[:12]
    write_json(file, {"study": study, "inode": inode})
    return study


@dataclass(frozen=True)
class ExperimentStore:
    """An experiment, and the client that writes to it."""

    client: MlflowClient
    experiment_id: str
    study: str  # the working directory whose runs these are, of several that share a server

    def runs(self, key: str) -> list[Run]:
        """Find the active runs of a stage or candidate of this study, oldest first; also those of before studies were told apart."""
        found = runs_with(self.client, self.experiment_id, "edgeward.key", key)
        return [run for run in found if run.data.tags.get(STUDY, self.study) == self.study]

    def candidate(self, identity: Identity, started_at: float) -> str | None:
        """Return the run that is a candidate's row, made if it is new; None for shared stages."""
        key = identity.candidate
        if key is None:
            return None
        runs = self.runs(key)
        for surplus in runs[1:]:  # of a request whose answer was lost: nothing refers to it
            self.client.delete_run(surplus.info.run_id)
        if runs:
            if STUDY not in runs[0].data.tags:  # of before studies were told apart
                self.client.set_tag(runs[0].info.run_id, STUDY, self.study)
            return str(runs[0].info.run_id)
        names = ("data", "model", "seed", "recipe")
        tags = {
            "edgeward.kind": "candidate",
            "edgeward.key": key,
            **{f"edgeward.{name}": getattr(identity, name) for name in names},
        }
        name = f"{identity.model} {identity.recipe} s{identity.seed}"
        return self.create(name, started_at, tags)

    def create(self, name: str, started_at: float, tags: Tags) -> str:
        """Make a run that began at `started_at` (Unix seconds); return its id."""
        run = self.client.create_run(
            self.experiment_id,
            start_time=int(started_at * 1000),
            tags={STUDY: self.study, **{k: str(v) for k, v in tags.items() if v is not None}},
            run_name=name,
        )
        return str(run.info.run_id)
