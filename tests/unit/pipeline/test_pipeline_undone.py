"""What a run has left undone, from a graph as Snakemake keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from snakemake.iocontainers import InputFiles, OutputFiles, Wildcards

from edgeward.pipeline.paths import (
    Assess,
    Compress,
    Export,
    Interleave,
    Profile,
    Report,
    ResultPaths,
    Stage,
    Train,
)
from edgeward.pipeline.undone import Undone
from edgeward.records.failure import Failure

OF = {"data": "d", "model": "m", "seed": "0"}


class Named:
    """A rule."""

    def __init__(self, name: str) -> None:
        self.name, self.script = name, f"../scripts/{name.partition('_')[0]}.py"


class Job:
    """A job with Snakemake's own containers of names."""

    def __init__(self, number: int, name: str, of: dict[str, str], **outputs: Path) -> None:
        self.number, self.rule = number, Named(name)
        self.wildcards = Wildcards(fromdict=of)
        self.output = OutputFiles(fromdict={k: str(v) for k, v in outputs.items()})
        self.params = InputFiles(fromdict={"cfg": {"of": name}})
        self.log = [f"logs/{name}-{number}.log"]

    def is_group(self) -> bool:
        return False


class Graph:
    """As much of Snakemake's DAG as is read."""

    def __init__(self, edges: dict[Job, list[Job]], done: set[Job]) -> None:
        self.dependencies, self._done = edges, done

    def needrun_jobs(self) -> list[Job]:
        return [job for job in self.dependencies if job not in self._done]

    def finished(self, job: Job) -> bool:
        return job in self._done

    def jobid(self, job: Job) -> int:
        return job.number


def workflow(edges: dict[Job, list[Job]], done: set[Job], failed: set[Job]) -> Any:
    class Scheduler:
        pass

    class Workflow:
        pass

    found: Any = Workflow()
    found.dag, found.scheduler = Graph(edges, done), Scheduler()
    found.scheduler.failed = failed
    return found


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def candidate(number: int, recipe: str, train: Job) -> tuple[dict[Job, list[Job]], list[Job]]:
    of = OF | {"recipe": recipe}
    at = "d", "m", 0, recipe
    compress = Job(
        number, "compress", of, recipe=Compress(*at).record, metrics=Compress(*at).metrics
    )
    export = Job(number + 1, "export", of, model=Export(*at).onnx, metrics=Export(*at).metrics)
    assess = Job(number + 2, "assess", of, verdict=Assess(*at).verdict, metrics=Assess(*at).metrics)
    profile = Job(
        number + 3, "profile", of | {"device": "host"}, profile=Profile(*at, "host").record,
        metrics=Profile(*at, "host").metrics,
    )  # fmt: skip
    edges = {compress: [train], export: [compress], assess: [export], profile: [export]}
    return edges, [compress, export, assess, profile]


def test_a_failed_reference_its_sibling_and_a_failed_device() -> None:
    train = Job(1, "train", OF, model=Train("d", "m", 0).checkpoint)
    edges: dict[Job, list[Job]] = {train: []}
    first, reference = candidate(10, "fp32", train)
    second, sibling = candidate(20, "int8", train)
    edges |= first | second
    edges[sibling[2]].append(reference[2])  # assess of the sibling reads that of the reference
    turns = Job(
        30, "interleave", {"sweep": "s", "device": "host"}, record=Interleave("s", "host").record
    )
    edges[turns] = [reference[1], sibling[1]]
    page = Job(40, "report", {"sweep": "s"}, page=Report("s").page)
    edges[page] = [turns, reference[2], sibling[2], reference[3], sibling[3]]
    kept = Stage.failure(Export("d", "m", 0, "fp32").metrics)
    Failure(
        format=Failure.FORMAT, stage="export", of=OF | {"recipe": "fp32"}, reason="It differs. Mend it.",
        foreseen=True, log="logs/export.log", kept=["parity.json"],
    ).write(kept)  # fmt: skip
    done = {train, reference[0], *sibling[:2]}
    undone = Undone(workflow(edges, done, {reference[1], sibling[3]}))

    at = [ResultPaths("d", "m", 0, recipe, ("host",)) for recipe in ("fp32", "int8")]
    missing = undone.missing(at)
    assert [(m.recipe, m.device, m.stage, m.own) for m in missing] == [
        ("fp32", None, "export", True),
        ("int8", None, "assess", False),
    ]
    assert missing[0].reason == "export: It differs. Mend it."
    assert missing[1].reason.startswith(
        "Not judged, for want of its reference: fp32 failed in export: It differs."
    )
    assert undone.present(at) == []
    assert [f.foreseen for f in undone.failures] == [True, False]
    assert "killed" in undone.failures[1].reason  # of the job that said nothing
    assert undone.besides == ["interleave s/host was not done: 1 stage that it needs failed"]
    assert Report("s").page in undone.by_output

    # The same, had the reference been exported: one device is missing, the candidate is not.
    done |= {*reference, sibling[2], turns}
    undone = Undone(workflow(edges, done, {sibling[3]}))
    (lost,) = undone.missing(at)
    assert (lost.recipe, lost.device, lost.stage) == ("int8", "host", "profile")
    assert [(p.recipe, p.devices) for p in undone.present(at)] == [
        ("fp32", ("host",)),
        ("int8", ()),
    ]


def test_what_was_not_reached_has_not_failed() -> None:
    train = Job(1, "train", OF, model=Train("d", "m", 0).checkpoint)
    edges, _ = candidate(10, "fp32", train)
    undone = Undone(workflow({train: [], **edges}, {train}, set()))
    at = [ResultPaths("d", "m", 0, "fp32", ("host",))]
    assert undone.missing(at) == []
    assert undone.present(at) == []


def test_all_candidates_of_a_failed_training_say_so() -> None:
    train = Job(
        1, "train", OF, model=Train("d", "m", 0).checkpoint, metrics=Train("d", "m", 0).metrics
    )
    edges: dict[Job, list[Job]] = {train: []}
    for number, recipe in ((10, "fp32"), (20, "int8")):
        edges |= candidate(number, recipe, train)[0]
    undone = Undone(workflow(edges, set(), {train}))
    missing = undone.missing([ResultPaths("d", "m", 0, recipe) for recipe in ("fp32", "int8")])
    assert [m.stage for m in missing] == ["compress", "compress"]
    assert {m.reason for m in missing} == {
        "Not begun: train d/m/0 failed: It ended without a word: killed, as for want of memory, or by somebody."
    }
