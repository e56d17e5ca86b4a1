"""Candidates read from their stages' files, checked, and put in order."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgeward.core.errors import UserError
from edgeward.core.text import count
from edgeward.records.base import Interval
from edgeward.records.card import Card
from edgeward.records.parity import Parity
from edgeward.records.port import refusal
from edgeward.records.profile import Profile, Setting
from edgeward.records.recipe import Recipe
from edgeward.records.safety import EndpointRow, OnDevice, Safety, Verdict, VerdictWord
from edgeward.tasks.base import Metric, Task, task

if TYPE_CHECKING:
    from edgeward.pipeline.paths import ResultPaths


@dataclass(frozen=True)
class Timing:
    """One setting of one device's profile."""

    profile: Profile
    setting: Setting

    @property
    def valid(self) -> bool:
        """True where the measurement met its own conditions."""
        return self.setting.verdict == "VALID"

    def latency(self, name: str) -> Interval:
        """Return a percentile of the latency in ms, as ``p50``."""
        found: Interval = getattr(self.setting.latency_ms, name, None) or Interval()
        return found

    @property
    def p50(self) -> Interval:
        """The median latency in ms."""
        return self.latency("p50")

    @property
    def conditions(self) -> str:
        """What a latency must be read with."""
        s = self.setting
        return (
            f"{self.profile.device}, {s.threads} thread{'' if s.threads == 1 else 's'}, batch {s.batch}, "
            f"warm-up {s.warmup}, n = {s.n}"
        )


@dataclass(frozen=True)
class Decided:
    """What a device found of a candidate, and the verdict on it by the device's own decisions."""

    on: OnDevice
    safety: Safety
    verdict: Verdict


@dataclass(frozen=True)
class Candidate:
    """One data x model x seed x recipe with the contents of its files."""

    paths: ResultPaths
    task: Task
    card: Card
    history: list[dict[str, float]]
    built: Recipe
    parity: Parity
    safety: Safety
    verdict: Verdict
    profiles: dict[str, Profile]
    decided: dict[str, Decided] = field(default_factory=dict)

    @property
    def data(self) -> str:
        """Name of the data set."""
        return self.paths.data

    @property
    def model(self) -> str:
        """Name of the network."""
        return self.paths.model

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return self.paths.seed

    @property
    def recipe(self) -> str:
        """Name of the recipe by which it was compressed."""
        return self.paths.recipe

    @property
    def key(self) -> str:
        """Name of the candidate's checklist files."""
        return f"{self.data}-{self.model}-s{self.seed}-{self.recipe}"

    @property
    def family(self) -> tuple[str, str, int]:
        """What a candidate shares with its reference: data, model and seed."""
        return self.data, self.model, self.seed

    @property
    def outcome(self) -> VerdictWord:
        """The verdict in a word."""
        return self.verdict.verdict

    @property
    def is_reference(self) -> bool:
        """True for the candidate against which its siblings are judged."""
        return self.outcome == "reference"

    @property
    def synthetic(self) -> bool:
        """Whether its cases were drawn, and show no patient."""
        return self.card.synthetic

    @property
    def weak(self) -> list[EndpointRow]:
        """Endpoints of classes of which the reference itself finds less than half, beyond its interval: little was there to lose."""
        return [
            e
            for e in self.verdict.endpoints
            if e.class_name and e.floor is None and e.direction == "higher"
            and e.reference.high is not None and e.reference.high < 0.5
        ]  # fmt: skip

    @property
    def doubts(self) -> list[str]:
        """Why a finished file may be taken otherwise than it was meant."""
        return self.parity.taken.doubts if self.parity.taken else []

    @property
    def confidence(self) -> str:
        """Confidence level of the safety intervals, as text such as ``95 %``."""
        return f"{100 * self.safety.confidence_level:g} %"

    @property
    def primary(self) -> Metric:
        """The metric that its task is judged by first."""
        return self.task.metric(self.task.primary)

    @cached_property
    def timings(self) -> list[Timing]:
        """All measured settings, device by device."""
        return [Timing(p, setting) for p in self.profiles.values() for setting in p.settings]

    def timing(self, device: str | None) -> Timing | None:
        """Return the setting that comparisons use: the first that the device's config names.

        None where the engine refuses the model, or it was not profiled there.
        """
        profile = self.profiles.get(device or "")
        return Timing(profile, profile.settings[0]) if profile and profile.settings else None

    @property
    def refusals(self) -> dict[str, str]:
        """Devices whose engine cannot load the model, and why, in its words."""
        return {d: p.refused for d, p in self.profiles.items() if p.refused is not None}

    def metric(self, name: str) -> Interval:
        """Return a metric of ``safety.json``; an empty interval where it is not there."""
        return self.safety.metrics.get(name, Interval())

    def difference(self, name: str) -> Interval:
        """Return compressed minus reference of a metric, from ``verdict.json``."""
        return self.verdict.differences.get(name, Interval())

    def metric_name(self, key: str) -> str:
        """Say what a key of a flat record is of: a metric, of a class if it names one."""
        for metric in (*self.task.metrics, *self.task.class_metrics):
            if key == metric.name:
                return metric.label
            if (
                key.startswith(f"{metric.name}_")
                and key[len(metric.name) + 1 :] in self.safety.classes
            ):
                return f"{metric.label} of {key[len(metric.name) + 1 :]}"
        return key

    def note(self, metric: Metric) -> str:
        """Return what stands below a metric's heading: the unit of a length, or the metric's own note."""
        return self.card.length_unit if metric.unit == "length" else metric.note

    @property
    def case(self) -> str:
        """What its test set consists of."""
        case = self.task.case
        return case if self.card.spatial_dims == 2 else case.replace("image", "volume")

    @property
    def elements(self) -> str:
        """What its images consist of."""
        return "voxels" if self.card.spatial_dims == 3 else "pixels"

    @property
    def counts(self) -> dict[str, int]:
        """What the test set consists of, besides cases and groups, as its task counts it."""
        return {name: self.safety.n[name] for name in self.task.counts if name in self.safety.n}

    @property
    def sample(self) -> str:
        """What the test set consists of, in words."""
        n = self.safety.n
        counted = [f"{count(k)} {self.task.counts[name]}" for name, k in self.counts.items() if k]
        cases = f"{count(n['test'])} {self.case}s of {count(n['groups'])} groups"
        return ", ".join([cases, *counted])


def _history(path: Path) -> list[dict[str, float]]:
    try:
        with path.open(newline="") as handle:
            return [
                {key: float(value) for key, value in row.items() if key and value not in (None, "")}
                for row in csv.DictReader(handle)
            ]
    except FileNotFoundError:  # a finished file was not trained here
        return []
    except ValueError as error:
        raise UserError(f"{path} holds something that is no number: {error}.") from None


def _decided(safety: Path, verdict: Path) -> Decided | None:
    """Return what a device decided; None where its engine cannot take the model, as its profile says."""
    if refusal(safety) is not None:
        return None
    found = Safety.read(safety)
    if found.on is None:
        raise UserError(f"{safety}: 'on' is missing: no device is named. Run decide again.")
    return Decided(found.on, found, Verdict.read(verdict))


def load(paths: ResultPaths) -> Candidate:
    """Read one candidate.

    Raises
    ------
    UserError
        If a file is missing or broken, or the files contradict each other.
    """
    card = Card.read(paths.prepare.card)
    found = Candidate(
        paths=paths,
        task=task(card.task, str(paths.prepare.card)),
        card=card,
        history=_history(paths.train.history),
        built=Recipe.read(paths.compress.record),
        parity=Parity.read(paths.export.parity),
        safety=Safety.read(paths.assess.safety),
        verdict=Verdict.read(paths.assess.verdict),
        profiles={device: Profile.read(path) for device, path in paths.profiles.items()},
        decided={
            device: found
            for device, at in paths.decided.items()
            if (found := _decided(at.safety, at.verdict)) is not None
        },
    )
    for what, ours, theirs in (
        ("task", task(found.safety.task, str(paths.assess.safety)).name, found.task.name),
        ("classes", found.safety.classes, list(card.classes)),
    ):
        if ours != theirs:
            raise UserError(
                f"{paths.assess.safety}: '{what}' is {ours}, that of the data set {theirs}. Run assess again."
            )
    if missing := {found.task.primary, *found.task.columns} - found.safety.metrics.keys():
        raise UserError(
            f"{paths.assess.safety}: 'metrics' lacks {', '.join(sorted(missing))}. Run assess again."
        )
    return found


def load_all(candidates: Iterable[ResultPaths], *, or_none: bool = False) -> list[Candidate]:
    """Read all candidates in the order given, each family's reference first.

    Parameters
    ----------
    or_none : whether there may be none.

    Raises
    ------
    UserError
        If there are none, two are the same, or one cannot be read.
    """
    found: dict[str, Candidate] = {}
    for candidate in map(load, candidates):
        if candidate.key in found:
            raise UserError(f"Candidate {candidate.key} appears twice in the sweep.")
        found[candidate.key] = candidate
    if not found and not or_none:
        raise UserError("The sweep has no candidate, so there is nothing to report.")
    families = list(dict.fromkeys(candidate.family for candidate in found.values()))
    return sorted(found.values(), key=lambda c: (families.index(c.family), not c.is_reference))
