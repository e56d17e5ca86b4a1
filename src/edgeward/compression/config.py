"""The ``compress`` config group: a recipe is a name and a list of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field, model_validator

from edgeward.compression.steps import step_classes
from edgeward.compression.steps.base import Step
from edgeward.core.config import Closed

if TYPE_CHECKING:
    AnyStep = Step
else:
    AnyStep = Annotated[Union[tuple(step_classes())], Field(discriminator="step")]  # noqa: UP007


class RecipeConfig(Closed):
    """What is done to a trained model before export."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9][a-z0-9_]*$", description="name of the recipe in results and reports"
        ),
    ]
    steps: Annotated[list[AnyStep], Field(min_length=1, description="applied in this order")]

    @model_validator(mode="after")
    def _final_step_is_last(self) -> RecipeConfig:
        for position, step in enumerate(self.steps):
            if step.final and not all(later.follows_final for later in self.steps[position + 1 :]):
                raise ValueError(
                    f"step {position + 1} ends in an integer program, so it must be the last of the "
                    f"{len(self.steps)} steps; only temperature_scale can follow"
                )
        return self
