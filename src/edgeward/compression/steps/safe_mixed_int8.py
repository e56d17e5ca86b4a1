"""INT8 by calibration, with as many layers back in float as the safety constraint asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from edgeward.compression.int8 import Int8
from edgeward.core.config import Closed
from edgeward.training.config import SafetyLimits

if TYPE_CHECKING:
    from edgeward.compression.workpiece import Workpiece


class CostConfig(Closed):
    """The estimate of latency by which the search prefers one layer to another."""

    int8_speedup: Annotated[
        float, Field(ge=1, description="time of a float layer / time of the same layer in integers")
    ]
    conversion: Annotated[
        float,
        Field(ge=0, description="float multiply-accumulates in the time of converting an element"),
    ]


class SearchConfig(Closed):
    """How the layers are found."""

    ranking_images: Annotated[
        Literal["all"] | Annotated[int, Field(ge=1)],
        Field(
            description="images on which each layer's harm is measured: rare classes, then others"
        ),
    ]
    cost: CostConfig


class SafeMixedInt8(Int8):
    """`ptq_int8`, less those layers whose rounding breaks the constraint."""

    step: Literal["safe_mixed_int8"]
    constraint: SafetyLimits
    search: SearchConfig

    @property
    def limits(self) -> SafetyLimits:
        """The constraint of the search."""
        return self.constraint

    def apply(self, piece: Workpiece) -> None:
        """Calibrate, search, convert with the layers found in float, export."""
        from edgeward.compression.constraint import search

        search.run(
            piece,
            self,
            self.constraint,
            ranking_images=self.search.ranking_images,
            **self.search.cost.model_dump(),
        )
