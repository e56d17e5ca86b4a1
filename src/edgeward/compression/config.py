"""The ``compress`` config group: a recipe is a name and a list of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Union

from pydantic import Field, model_validator

from edgeward.compression.step import Step
from edgeward.compression.steps import step_classes
from edgeward.core.config import Closed

if TYPE_CHECKING:
    AnyStep = Step
else:
    AnyStep = Annotated[Union[tuple(step_classes())], Field(discriminator="step")]  # noqa: UP007


class Static(Closed):
    """How a finished file in float becomes one in INT8, by onnxruntime's static quantizer."""

    images: Literal["all"] | Annotated[int, Field(ge=1)] = Field(
        "all", description="How many images of the calibration set, in seeded order."
    )
    method: Literal["minmax", "entropy", "percentile"] = Field(
        "minmax", description="How the range of an activation is chosen."
    )
    per_channel: bool = Field(
        True, description="A scale for each output channel of a weight; false: one for all of it."
    )
    reduce_range: Literal["auto"] | bool = Field(
        "auto",
        description="Weights of 7 bits, for x86 processors without VNNI, whose integer kernels saturate; auto: if this one is such.",
    )
    operators: list[str] | None = Field(
        None,
        description="Types of operators that are quantized, e.g. `[Conv, Gemm, MatMul]`; null: all that the quantizer knows.",
    )


class RecipeConfig(Closed):
    """What is done to a trained model before export; or a file that somebody has made of it."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_]*$", description="Its name in results and reports."
    )
    steps: list[AnyStep] = Field(
        [], description="What is done, in this order (docs/add-a-recipe.md)."
    )
    file: str | None = Field(
        None,
        description="Instead of steps: a finished ONNX file, whatever made it, below the weights root (docs/two-onnx-files.md); what it takes "
        "stands in the model's file (key `takes`).",
    )
    quantize: Static | None = Field(
        None, description="What is done to the finished file; null: nothing, it is as it is."
    )

    @model_validator(mode="after")
    def _steps_or_file(self) -> RecipeConfig:
        if bool(self.steps) == (self.file is not None):
            raise ValueError(
                "steps, file: give the steps of a recipe, or a finished file (as_given takes that of a model of builder onnx)"
            )
        if self.quantize is not None and self.file is None:
            raise ValueError(
                "quantize: is for finished files (file); steps have one of their own, ptq_int8"
            )
        return self

    @property
    def teachers(self) -> list[str]:
        """The models that the recipe distils from, each once."""
        named = (getattr(step, "teacher", None) for step in self.steps)
        return list(dict.fromkeys(name for name in named if name is not None))

    @property
    def device(self) -> str | None:
        """The device that a step times operators on; None: no step does."""
        return next(iter(self._devices), None)

    @property
    def _devices(self) -> list[str]:
        named = (getattr(step, "device", None) for step in self.steps)
        return list(dict.fromkeys(name for name in named if name is not None))

    @model_validator(mode="after")
    def _one_device(self) -> RecipeConfig:
        if len(self._devices) > 1:
            raise ValueError(
                f"steps name the devices {', '.join(self._devices)}: a recipe is for one; make a recipe of each"
            )
        return self

    @model_validator(mode="after")
    def _final_step_is_last(self) -> RecipeConfig:
        for position, step in enumerate(self.steps):
            if step.final and not all(later.follows_final for later in self.steps[position + 1 :]):
                raise ValueError(
                    f"step {position + 1} ends in an integer program, so it must be the last of the "
                    f"{len(self.steps)} steps; only temperature_scale and align_decisions can follow"
                )
        return self

    @model_validator(mode="after")
    def _zeros_are_kept(self) -> RecipeConfig:
        sparse = None
        for position, step in enumerate(self.steps):
            if sparse is not None and not step.keeps_zeros:
                raise ValueError(
                    f"step {position + 1} would undo the zeros of step {sparse + 1}: put it before"
                )
            if step.makes_zeros:
                sparse = position
        return self
