"""Candidates read from their stages' files, checked, and put in order.

Standard library only, since the end summary in the terminal uses it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeward.core.errors import UserError
from edgeward.reporting.numbers import Interval, interval
from edgeward.reporting.tasks import TASKS, Task

if TYPE_CHECKING:
    from edgeward.pipeline.paths import ResultPaths

VERDICTS = ("reference", "pass", "fail", "inconclusive")
PROFILE_SCHEMA = "edgeward-profile/2"

# What each file must hold for a report to be honest; anything else may be absent and is shown so.
REQUIRED: dict[str, tuple[str, ...]] = {
    "card": ("name", "task", "classes"),
    "recipe": ("recipe", "precision"),
    "parity": (),
    "safety": (),  # by task: `edgeward.reporting.tasks`
    "verdict": ("reference", "verdict", "reasons", "endpoints", "differences", "per_class"),
}
PROFILE_REQUIRED = ("device", "engine", "model", "settings")


@dataclass(frozen=True)
class Candidate:
    """One data x model x seed x recipe with the contents of its files (docs/architecture.md)."""

    data: str
    model: str
    seed: int
    recipe: str
    card: dict[str, Any]
    history: list[dict[str, float]]
    built: dict[str, Any]
    parity: dict[str, Any]
    safety: dict[str, Any]
    verdict: dict[str, Any]
    profiles: dict[str, dict[str, Any]]
    paths: ResultPaths

    @property
    def task(self) -> Task:
        """How candidates for the data's task are reported."""
        return TASKS[self.card["task"]]

    @property
    def onnx(self) -> Path:
        """The file that ships."""
        return self.paths.export.onnx

    @property
    def key(self) -> str:
        """Name of the candidate's checklist files."""
        return f"{self.data}-{self.model}-s{self.seed}-{self.recipe}"

    @property
    def family(self) -> tuple[str, str, int]:
        """What a candidate shares with its reference: data, model and seed."""
        return self.data, self.model, self.seed

    @property
    def outcome(self) -> str:
        """One of `VERDICTS`."""
        return str(self.verdict["verdict"])

    @property
    def is_reference(self) -> bool:
        """True for the candidate against which its siblings are judged."""
        return self.outcome == "reference"

    @property
    def confidence(self) -> str:
        """Confidence level of the safety intervals, as text such as ``95 %``."""
        level = self.safety.get("confidence_level")
        return f"{100 * level:g} %" if isinstance(level, int | float) else "level not recorded"

    @cached_property
    def timings(self) -> list[Timing]:
        """All measured settings, device by device."""
        return [
            Timing(device, profile, setting)
            for device, profile in self.profiles.items()
            for setting in profile["settings"]
        ]

    def refusal(self, device: str) -> str | None:
        """Return why the engine of a device cannot load the model, in its words; None if it can."""
        reason = self.profiles[device].get("refused")
        return None if reason is None else str(reason)

    @property
    def refusals(self) -> dict[str, str]:
        """Devices whose engine cannot load the model, and why."""
        return {d: reason for d in self.profiles if (reason := self.refusal(d)) is not None}

    def timing(self, device: str) -> Timing | None:
        """Return the setting that comparisons use: the first that the device's config names.

        None where the engine refuses the model.
        """
        return next((timing for timing in self.timings if timing.device == device), None)

    def metric(self, name: str) -> Interval:
        """Return a metric of ``safety.json``."""
        return interval(self.safety.get(name))

    def difference(self, name: str) -> Interval:
        """Return compressed minus reference of a metric, from ``verdict.json``."""
        return interval(self.verdict["differences"].get(name))


@dataclass(frozen=True)
class Timing:
    """One setting of one device's profile."""

    device: str
    profile: dict[str, Any]
    setting: dict[str, Any]

    @property
    def threads(self) -> int | None:
        """Threads of the engine."""
        return self.setting.get("threads")

    @property
    def batch(self) -> int | None:
        """Images per inference."""
        return self.setting.get("batch")

    @property
    def valid(self) -> bool:
        """True where the measurement met its own conditions."""
        return self.setting.get("verdict") == "VALID"

    def latency(self, name: str) -> Interval:
        """Return a percentile or moment of the latency in ms."""
        return interval((self.setting.get("latency_ms") or {}).get(name))

    @property
    def conditions(self) -> str:
        """What a latency must be read with."""
        n = self.setting.get("n")
        parts = [
            self.device,
            f"{self.threads} thread{'' if self.threads == 1 else 's'}",
            f"batch {self.batch}",
            f"warm-up {self.setting.get('warmup', 'not recorded')}",
            f"n = {n if n is not None else 'not recorded'}",
        ]
        return ", ".join(parts)


def read(path: Path, what: str, required: Iterable[str]) -> dict[str, Any]:
    """Read a JSON object that must hold the `required` keys; `what` names it in errors."""
    try:
        content = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(
            f"The report needs {path} ({what}), which is not there. Run the stage again."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} ({what}) is not valid JSON: {error}. Run the stage again."
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} ({what}) must hold a JSON object. Run the stage again.")
    require(content, path, what, required)
    return content


def require(content: Mapping[str, Any], path: Path, what: str, required: Iterable[str]) -> None:
    """Refuse a record that lacks one of the `required` keys."""
    missing = [key for key in required if key not in content]
    if missing:
        raise UserError(
            f"{path} ({what}) lacks {', '.join(missing)}. It was written by another version of "
            "edgeward, or by hand: run the stage again."
        )


def _history(path: Path) -> list[dict[str, float]]:
    try:
        with Path(path).open(newline="") as handle:
            rows = list(csv.DictReader(handle))
        return [
            {key: float(value) for key, value in row.items() if key and value not in (None, "")}
            for row in rows
        ]
    except FileNotFoundError:
        raise UserError(f"The report needs {path} (history), which is not there.") from None
    except ValueError as error:
        raise UserError(f"{path} (history) holds something that is no number: {error}.") from None


def documents(paths: ResultPaths) -> dict[str, Path]:
    """Return where the records named in `REQUIRED` lie."""
    return {
        "card": paths.prepare.card,
        "recipe": paths.compress.record,
        "parity": paths.export.parity,
        "safety": paths.assess.safety,
        "verdict": paths.assess.verdict,
    }


def load(paths: ResultPaths) -> Candidate:
    """Read one candidate.

    Raises
    ------
    UserError
        If a file is missing or broken, or the files contradict each other.
    """
    files = documents(paths)
    docs = {key: read(files[key], key, keys) for key, keys in REQUIRED.items()}
    task = TASKS.get(docs["card"]["task"])
    if task is None:
        raise UserError(
            f"{files['card']}: task is {docs['card']['task']!r}; allowed are {', '.join(TASKS)}. "
            "Run prepare again."
        )
    require(docs["safety"], files["safety"], "safety", task.required)
    profiles = {}
    for device, path in paths.profiles.items():
        profile = read(path, f"profile of {device}", PROFILE_REQUIRED)
        if profile.get("schema") != PROFILE_SCHEMA:
            raise UserError(
                f"{path}: schema is {profile.get('schema')!r}, and this version reads "
                f"'{PROFILE_SCHEMA}'. Run profile again."
            )
        profiles[device] = profile
    if docs["verdict"]["verdict"] not in VERDICTS:
        raise UserError(
            f"{files['verdict']}: verdict is {docs['verdict']['verdict']!r}; "
            f"allowed are {', '.join(VERDICTS)}."
        )
    if list(docs["safety"]["classes"]) != list(docs["card"]["classes"]):
        raise UserError(
            f"{files['safety']} has classes {docs['safety']['classes']}, the data set has "
            f"{docs['card']['classes']}. Run assess again."
        )
    return Candidate(
        data=paths.data,
        model=paths.model,
        seed=paths.seed,
        recipe=paths.recipe,
        card=docs["card"],
        history=_history(paths.train.history),
        built=docs["recipe"],
        parity=docs["parity"],
        safety=docs["safety"],
        verdict=docs["verdict"],
        profiles=profiles,
        paths=paths,
    )


def load_all(entries: Iterable[ResultPaths]) -> list[Candidate]:
    """Read all candidates in the order given, each family's reference first.

    Raises
    ------
    UserError
        If there are none, two are the same, or one cannot be read.
    """
    candidates = [load(entry) for entry in entries]
    if not candidates:
        raise UserError("The sweep has no candidate, so there is nothing to report.")
    seen: set[str] = set()
    for candidate in candidates:
        if candidate.key in seen:
            raise UserError(f"Candidate {candidate.key} appears twice in the sweep.")
        seen.add(candidate.key)
    families = list(dict.fromkeys(candidate.family for candidate in candidates))
    return sorted(candidates, key=lambda c: (families.index(c.family), not c.is_reference))


def by_data(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    """Group candidates by data set, keeping the order."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.data, []).append(candidate)
    return groups


def reference_of(candidate: Candidate, candidates: Iterable[Candidate]) -> Candidate | None:
    """Return the sibling that serves as reference (the candidate itself if it is one), or None."""
    for other in candidates:
        if other.is_reference and other.family == candidate.family:
            return other
    return None
