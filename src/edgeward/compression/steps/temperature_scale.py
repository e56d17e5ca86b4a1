"""Temperature scaling as the last operator of what ships: says less or more, decides the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgeward.compression.step import Step

if TYPE_CHECKING:
    from edgeward.compression.workpiece import Workpiece


class TemperatureScale(Step):
    """Divide the logits by the temperature that fits the validation split best."""

    follows_final: ClassVar[bool] = True
    keeps_zeros: ClassVar[bool] = True

    step: Literal["temperature_scale"]
    largest: float = Field(
        10.0,
        gt=1,
        le=100,
        description="The temperature is kept between 1 / largest and largest: a validation split without errors has no finite optimum.",
    )

    @property
    def needs(self) -> tuple[str, ...]:
        """One decision per case to fit on."""
        return ("temperature_scale",)

    def apply(self, piece: Workpiece) -> None:
        """Fit on validation, and put the division behind the logits."""
        from edgeward.compression.constraint.temperature import scale

        scale(piece, self.largest)
