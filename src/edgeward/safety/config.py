"""Keys of the ``safety`` group: those of every assessment, and a section of each task's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, create_model

from edgeward.core import plugins
from edgeward.core.config import Closed
from edgeward.tasks.base import task_names


class StudyConfig(Closed):
    """What every assessment reads, whatever the task."""

    reference: str = Field(min_length=1, description="Recipe that the others are compared with.")
    confidence_level: float = Field(ge=0.5, lt=1, description="Of all intervals, two-sided.")
    resamples: int = Field(ge=200, le=100_000, description="Bootstrap resamples.")
    seed: int = Field(ge=0, description="Of the resamples.")
    power: float = Field(gt=0.5, lt=1, description="For the number of cases needed.")
    batch_size: int = Field(ge=1, description="Images per inference call.")
    overlap: float = Field(
        ge=0, lt=1, description="Share that neighbouring windows of a volume have in common."
    )
    windows: int = Field(ge=1, description="Windows per inference call, for volumes.")


_SECTIONS: dict[str, Any] = {
    name: (plugins.load("edgeward.tasks", name, "config", "config/safety/").Safety, ...)
    for name in task_names()
}
SafetyGroup = create_model(
    "SafetyGroup",
    __base__=StudyConfig,
    __doc__="The ``safety`` group; a stage reads the section of its own task.",
    **_SECTIONS,
)


def study_config(content: Mapping[str, Any]) -> StudyConfig:
    """Read a slice of `assess`: the common keys, and the sections of some tasks."""
    sections = {name: section for name, section in _SECTIONS.items() if name in content}
    model = create_model("SafetyConfig", __base__=StudyConfig, **sections)
    return model.model_validate(dict(content))
