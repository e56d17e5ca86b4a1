"""``card.json``: the facts of a prepared data set."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, JsonValue

from edgeward.records.base import File, Record, TaskName

Table = dict[str, dict[str, int]]


class Finding(Record):
    """Cases on several sides of the splits that should not be, copies, or copies of several labels; the first ten of them."""

    kind: str
    ids: list[str]
    groups: list[str]
    splits: list[str]
    labels: list[str] = Field(default_factory=list)
    n: int = Field(description="Cases.")


class Leakage(Record):
    """What was looked for: numbers of each kind, and the first findings; all of them are in findings.csv."""

    shared_groups: int = Field(description="Groups on several sides.")
    identical: int = Field(description="Sets of identical images on several sides.")
    near_identical: int = Field(
        description="Pairs of almost identical images on different sides, identical ones not counted."
    )
    contradictory: int = Field(
        default=0, description="Sets of identical images with several labels or masks."
    )
    copies: int = Field(default=0, description="Sets of identical images, two of them on one side.")
    cases: dict[str, int] = Field(
        default_factory=dict, description="Kind -> cases that the findings concern."
    )
    findings: list[Finding] = Field(description="At most 100 of each kind.")


class Invalid(Record):
    """Cases that cannot be used, the first with the reason."""

    n: int
    first: list[list[str]]


class CalibrationSet(Record):
    """Cases of the training split that calibrate activations."""

    n: int


class Card(File):
    """What later stages and readers know of the data."""

    FORMAT: ClassVar[str] = "edgeward-card/1"
    STAGE: ClassVar[str] = "prepare"

    name: str
    task: TaskName
    spatial_dims: int = 2
    source: str
    licence: str
    citation: str
    classes: list[str] = Field(
        description="In label order; the foreground, where masks are predicted."
    )
    meanings: dict[str, str] = Field(
        default_factory=dict, description="What codes among the classes stand for."
    )
    synthetic: bool = Field(
        default=False, description="Whether the cases are drawn, and of no patient."
    )
    n_labels: int = Field(description="Classes and, where masks are predicted, the background.")
    rare_classes: list[str]
    rare_rule: str
    n_images: int
    image_shape: list[int] | None = Field(description="h, w, c; of volumes that differ None.")
    input_range: tuple[int, int]
    counts: Table = Field(description="Split -> class -> cases.")
    groups: dict[str, int] = Field(description="Split -> groups.")
    train_prior: list[float] = Field(description="Shares of the labels in train.")
    channel_mean: list[float] = Field(description="Of train, scale 0-1.")
    channel_std: list[float]
    seed: int
    invalid: Invalid = Invalid(n=0, first=[])
    noted: dict[str, int] = Field(
        default_factory=dict,
        description="What is odd about cases that are used all the same (data.checks) -> cases.",
    )
    pixels: Table | None = Field(default=None, description="Split -> label -> pixels or voxels.")
    empty: dict[str, int] | None = Field(
        default=None, description="Split -> cases without foreground."
    )
    strata: Table | None = Field(default=None, description="Split -> stratum -> cases.")
    cooccurrence: list[list[int]] | None = Field(
        default=None,
        description="Training cases that have both of two classes, where a case may have several.",
    )
    unknown: Table | None = Field(
        default=None,
        description="Split -> class -> cases of which nobody says whether they have it.",
    )
    left_out: dict[str, int] = Field(
        default_factory=dict,
        description="Findings that are not predicted, as a side lacks them -> cases that have them.",
    )
    notes: dict[str, JsonValue] = Field(
        default_factory=dict, description="Of the source and of reading it."
    )
    leakage: Leakage
    calibration: CalibrationSet
    hashes: dict[str, str] = Field(description="File -> SHA-256.")

    @property
    def length_unit(self) -> str:
        """Unit of lengths: mm in volumes, pixels in the plane."""
        return "mm" if self.spatial_dims == 3 else "px"

    @classmethod
    def upgrade(cls, content: dict[str, Any]) -> dict[str, Any]:
        """Older files name no schema, and notes stand beside the rest."""
        return cls.unversioned(content, "notes")
