"""INT8 by calibration, of those operators that are faster so on a device, and harmless if a constraint says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from edgeward.compression.int8 import Int8
from edgeward.training.config import SafetyLimits

if TYPE_CHECKING:
    from edgeward.compression.workpiece import Workpiece


class FastInt8(Int8):
    """`ptq_int8` whose placement is the fastest that the device has, by a minimum cut over measured times."""

    step: Literal["fast_int8"]
    device: str = Field(
        "host",
        pattern=r"^[a-z0-9_]+$",
        description="On which the operators are timed, a name in config/profile/. A file is placed for one device: for two, two recipes.",
    )
    constraint: SafetyLimits | None = Field(
        None,
        description="Null: time alone counts. Else placements are taken from the front of time and harm, the fastest first, until the "
        "constraint holds on validation and calibration images; `{}` takes its defaults.",
    )
    ranking_images: Literal["all"] | Annotated[int, Field(ge=1)] = Field(
        400,
        description="Images on which the harm of each operator is measured, under a constraint, all of rare classes first; one pass per "
        'operator. "all": of validation and calibration.',
    )

    @property
    def limits(self) -> SafetyLimits | None:
        """The constraint, if there is one."""
        return self.constraint

    def apply(self, piece: Workpiece) -> None:
        """Time the operators, place, convert, time the whole."""
        from edgeward.compression.placing import search

        search.run(piece, self, self.constraint, ranking_images=self.ranking_images)
