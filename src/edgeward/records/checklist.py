"""The deployment checklist of a candidate: the record behind its sign-off sheet."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from edgeward.records.base import File, Interval, Record
from edgeward.records.card import Card
from edgeward.records.parity import Parity
from edgeward.records.profile import (
    Energy,
    Engine,
    Host,
    ModelFacts,
    NotMeasured,
    Operators,
    Setting,
)
from edgeward.records.provenance import Provenance
from edgeward.records.recipe import Calibrated
from edgeward.records.safety import OnDevice, Safety, Verdict


class Identity(Record):
    """Which candidate it is."""

    data: str
    model: str
    seed: int
    recipe: str
    precision: str


class Speedup(Interval):
    """How many times as fast as its reference it is."""

    in_turns: bool
    valid: bool


class Deployment(Record):
    """The candidate on one device."""

    device: str
    host: Host
    engine: Engine
    engine_settings: dict[str, JsonValue]
    model: ModelFacts
    int8_mac_share: float | None
    operators: Operators
    energy: NotMeasured | Energy
    refused: str | None
    speedup: Speedup | None
    settings: list[Setting]


class DecidedThere(Record):
    """The verdict by what a device decides."""

    on: OnDevice
    n: dict[str, int]
    verdict: Verdict


class Change(Record):
    """A metric before and after compression."""

    before: Interval
    after: Interval
    difference: Interval


class CandidateProvenance(Provenance):
    """From what the candidate was made, besides how the report was."""

    config_sha256: dict[str, str] = Field(
        description="Stage -> SHA-256 of the config.yaml that it left: all values that it read."
    )
    model_sha256: str = Field(description="Of the file that ships.")
    data_sha256: str = Field(description="Of the hashes of the prepared data's files.")
    versions: dict[str, str] = Field(description="Of what compressed the model.")
    recipe: dict[str, JsonValue]
    calibration: Calibrated
    data: Card
    seeds: dict[str, int]
    parity: Parity


class MappedItem(Record):
    """Where an item of a framework finds evidence here. A mapping, not compliance."""

    framework: str
    item: str = Field(description="As the framework names or numbers it.")
    about: str
    state: Literal["given", "in part", "not given"] = Field(
        description="How much of what the item asks for stands here."
    )
    evidence: str = Field(description="What stands here, and what does not.")


class SignOff(Record):
    """What is left to people."""

    open_items: list[str]
    signatures: list[dict[str, str | None]] = Field(description="Lines to sign.")


class Checklist(File):
    """The deployment checklist of one candidate."""

    FORMAT: ClassVar[str] = "edgeward-checklist/3"
    STAGE: ClassVar[str] = "report"

    after: str = Field(description="The reporting standard that it follows.")
    sweep: str
    intended_use: str | None = Field(description="As the sweep states it; null: not stated.")
    synthetic: bool = Field(
        description="Whether the cases were drawn: they say nothing of patients."
    )
    candidate: Identity
    verdict: Verdict
    deployment: list[Deployment]
    decided: list[DecidedThere] = Field(
        default_factory=list, description="By what devices decide, where they were asked."
    )
    safety: Safety
    before_after: dict[str, Change] = Field(description="Calibration; empty for a reference.")
    provenance: CandidateProvenance
    mapping: list[MappedItem] = Field(description="Of the evidence. A mapping, not compliance.")
    sign_off: SignOff
