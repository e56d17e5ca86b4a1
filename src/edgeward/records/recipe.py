"""``recipe.json``: how a model was compressed, and what the program takes and gives."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue, field_validator

from edgeward.records.base import File, Record, TaskName


class Origin(Record):
    """The weights that a network started from."""

    source: str
    sha256: str | None = Field(default=None, description="Of the file, if there was one.")
    drawn: list[str] = Field(
        default_factory=list, description="Parameters that were not taken from it."
    )


class ModelMeta(Record):
    """What goes with the weights from ``model.pt`` on."""

    model: dict[str, JsonValue] = Field(description="Slice of the configuration.")
    task: TaskName
    spatial_dims: int = 2
    num_classes: int
    n_labels: int = Field(description="Channels of the logits.")
    in_chans: int
    image_size: list[int] = Field(description="h, w, or the patch d, h, w.")
    patches: dict[str, JsonValue] | None = Field(default=None, description="How volumes were cut.")
    mean: list[float]
    std: list[float]
    classes: list[str]
    logit_shift: list[float]
    thresholds: list[float] | None = Field(
        default=None,
        description="Of weights whose labels are called each on its own: the logits above which they are. None: 0, as in "
        "what ships, where compress has taken them off the logits.",
    )
    data: str
    seed: int
    origin: Origin | None = Field(default=None, description="None: random weights.")

    @field_validator("model", mode="before")
    @classmethod
    def _older_keys(cls, model: dict[str, Any]) -> dict[str, Any]:
        """Older files name the task of a network, and call its family stream."""
        model = {("family" if key == "stream" else key): value for key, value in model.items()}
        if "task" in model:
            model["dense"] = model.pop("task") == "segmentation"
        return model


class Calibrated(Record):
    """The cases that calibrated activations."""

    n: int
    sha256: str | None


class Recipe(File):
    """What was done, and what came of it."""

    FORMAT: ClassVar[str] = "edgeward-recipe/1"
    STAGE: ClassVar[str] = "compress"

    recipe: str
    steps: list[dict[str, JsonValue]]
    precision: Literal["fp32", "fp16", "int8", "other"] = Field(
        description="Of a finished file: the type of its weights."
    )
    backend: str
    versions: dict[str, str]
    scheme: dict[str, JsonValue]
    calibration: Calibrated
    keep_float: list[str]
    quantized_parameter_share: float
    effects: list[dict[str, JsonValue]] = Field(description="Of each step: before and after.")
    parameters: int
    program_bytes: int
    meta: ModelMeta
    found: dict[str, JsonValue] = Field(default_factory=dict, description="What steps add.")

    @classmethod
    def upgrade(cls, content: dict[str, Any]) -> dict[str, Any]:
        """Older files name no schema, and what steps add stands beside the rest."""
        return cls.unversioned(content, "found")
