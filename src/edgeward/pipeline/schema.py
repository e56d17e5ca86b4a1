"""What there is under ``config/``: the groups with their models, and sweeps."""

from __future__ import annotations

from typing import Annotated, get_type_hints

from pydantic import BaseModel, Field, TypeAdapter

from edgeward.compression.config import RecipeConfig
from edgeward.core.config import Closed
from edgeward.data.config import DataConfig
from edgeward.export.config import AnyExport, export_config
from edgeward.models.config import ModelConfig
from edgeward.profiling.config import ProfileConfig
from edgeward.safety.config import SafetyGroup
from edgeward.scaling.config import ScalingConfig
from edgeward.training.config import TrainConfig


class RunConfig(Closed):
    """One run: a file of every group. A group may inherit from those above it (`edgeward.core.config.inherited`)."""

    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    safety: SafetyGroup
    export: AnyExport = export_config({})
    profile: ProfileConfig
    scaling: ScalingConfig
    compress: RecipeConfig


GROUPS = RunConfig.model_fields
CHECKS: dict[str, TypeAdapter[BaseModel]] = {
    group: TypeAdapter(kind)
    for group, kind in get_type_hints(RunConfig, include_extras=True).items()
    if group in GROUPS
}
# The file of each group that a run takes when neither sweep nor override names another.
CHOSEN = {
    "data": "phantom",
    "model": "mobileone_s0",
    "train": "default",
    "safety": "default",
    "export": "onnx",
    "profile": "host",
    "scaling": "default",
    "compress": "fp32",
}


class InterleaveConfig(Closed):
    """Which candidates are timed in turns in one process, so that ratios of latencies survive a noisy machine."""

    recipes: bool = Field(
        True, description="Each recipe of a model and seed against its reference recipe."
    )
    model: str | None = Field(
        None,
        description="All models, with the reference recipe, against this one of the axis `model`; null: none.",
    )


class SweepConfig(Closed):
    """Which runs: every combination of the names on the axes."""

    description: str = Field(min_length=1, description="One sentence, shown in the report.")
    intended_use: str = Field(
        "",
        description="Who is to use the model, on which patients and images, for which decision, and what it must not be used for. It is "
        "printed on every sign-off sheet; empty: the sheet says that it is not stated.",
    )
    data: list[str] = Field(min_length=1, description="Data sets: names in `data/`.")
    model: list[str] = Field(min_length=1, description="Networks: names in `model/`.")
    recipe: list[str] = Field(
        min_length=1,
        description="Recipes: names in `compress/`; the reference (`safety.reference`) is among them.",
    )
    seed: list[Annotated[int, Field(ge=0, le=10**9)]] = Field(
        [0],
        min_length=1,
        description="Seeds of training and compression. Several give intervals over seeds.",
    )
    device: list[str] = Field(["host"], min_length=1, description="Devices: names in `profile/`.")
    decide_on: list[str] = Field(
        [],
        description="Of these devices, those on which every candidate decides the test images, too: the same file decides differently on "
        "other processors and engines. Images in the plane only.",
    )
    overrides: list[str] = Field(
        [], description='Hydra overrides for every run of the sweep, e.g. `["train.epochs=5"]`.'
    )
    per_data: dict[str, list[str]] = Field(
        {},
        description="Hydra overrides for the runs on one data set, e.g. the train group that suits it.",
    )
    per_model: dict[str, list[str]] = Field(
        {}, description="Hydra overrides for the runs of one model, teachers included."
    )
    per_recipe: dict[str, list[str]] = Field(
        {}, description="Hydra overrides for the runs of one recipe."
    )
    sizes: list[Annotated[int, Field(ge=8, le=4096)]] = Field(
        [],
        description="Sides of square images, pixels, at which untrained networks are profiled, on the first device.",
    )
    size_models: list[str] = Field(
        [], description="The networks profiled at these sizes; empty: those of the axis `model`."
    )
    interleave: InterleaveConfig = InterleaveConfig()
