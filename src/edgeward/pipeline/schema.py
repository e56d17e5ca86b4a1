"""The closed schema of everything under ``config/``, and errors that name the nearest key."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, Field, ValidationError

from edgeward.compression.config import RecipeConfig
from edgeward.core.config import Closed
from edgeward.core.errors import UserError, did_you_mean
from edgeward.data.config import DataConfig
from edgeward.export.config import AnyExport
from edgeward.models.config import ModelConfig
from edgeward.profiling.config import ProfileConfig
from edgeward.safety.config import SafetyGroup
from edgeward.scaling.config import ScalingConfig
from edgeward.training.config import TrainConfig

GROUPS = ("data", "model", "train", "compress", "export", "profile", "safety", "scaling")


class RunConfig(Closed):
    """One composed run: a choice from every group."""

    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    compress: RecipeConfig
    export: AnyExport
    profile: ProfileConfig
    safety: SafetyGroup
    scaling: ScalingConfig


class InterleaveConfig(Closed):
    """Which candidates are timed in turns in one process (keys of the device: `interleave`)."""

    recipes: bool = Field(
        description="The recipes of each model and seed against its reference recipe."
    )
    model: str | None = Field(
        description="All models, with the reference recipe, against this one; null: none."
    )


class SweepConfig(Closed):
    """Which runs: every combination of the names on the axes."""

    description: str = Field(min_length=1, description="One sentence, shown in the report.")
    data: list[str] = Field(min_length=1)
    model: list[str] = Field(min_length=1)
    recipe: list[str] = Field(min_length=1)
    seed: list[int] = Field(min_length=1)
    device: list[str] = Field(min_length=1)
    overrides: list[str] = Field(description="Hydra overrides for every run of the sweep.")
    per_data: dict[str, list[str]] = Field(
        description="Hydra overrides for the runs on one data set, e.g. the train group that suits it."
    )
    per_model: dict[str, list[str]] = Field(
        description="Hydra overrides for the runs of one model."
    )
    per_recipe: dict[str, list[str]] = Field(
        description="Hydra overrides for the runs of one recipe."
    )
    sizes: list[Annotated[int, Field(ge=8, le=4096)]] = Field(
        description="Sides of square images, pixels, at which untrained networks are profiled."
    )
    size_models: list[str] = Field(
        description="The networks profiled at these sizes; empty: those of the axis `model`."
    )
    interleave: InterleaveConfig


def _fields_at(model: Any, path: tuple[int | str, ...]) -> list[str]:
    """List the keys allowed where `path` leads inside `model`; empty if it cannot be told."""
    candidates: list[Any] = [model]
    for part in path:
        following: list[Any] = []
        for candidate in _models_in(candidates):
            if isinstance(part, str) and part in candidate.model_fields:
                following.append(candidate.model_fields[part].annotation)
            else:  # a list index or the tag of a union: stay with the same models
                following.append(candidate)
        candidates = following
    return sorted({name for m in _models_in(candidates) for name in m.model_fields})


def _models_in(annotations: list[Any]) -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = []
    for annotation in annotations:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.append(annotation)
        else:
            found.extend(_models_in(list(get_args(annotation))))
    return found


def explain(
    error: ValidationError, model: type[BaseModel], where: dict[str, str], top: str
) -> UserError:
    """Turn a validation error into one message that names each key, its value and its file.

    Parameters
    ----------
    where : first key -> the file to edit. `top` : the file of all other keys.
    """
    lines = []
    for item in error.errors():
        path = tuple(item["loc"])
        key = ".".join(str(part) for part in path)
        file = where.get(str(path[0]), top) if path else top
        if item["type"] == "extra_forbidden":
            allowed = _fields_at(model, path[:-1])
            hint = did_you_mean(str(path[-1]), allowed)
            known = f" Allowed: {', '.join(allowed)}." if allowed else ""
            lines.append(f"{file}: key '{key}' is unknown.{hint}{known}")
        elif item["type"] == "missing":
            lines.append(f"{file}: key '{key}' is missing.")
        elif isinstance(
            item["input"], dict
        ):  # keys that contradict each other: the message says which
            lines.append(f"{file}: section '{key}': {item['msg'].removeprefix('Value error, ')}.")
        else:
            lines.append(f"{file}: key '{key}' has value {item['input']!r}: {item['msg']}.")
    return UserError("\n".join(lines))
