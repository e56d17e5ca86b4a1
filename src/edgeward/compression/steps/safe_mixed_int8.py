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
    """Which layers are cheap to keep in float; `profile` measures what it really costs."""

    int8_speedup: float = Field(
        2.0,
        ge=1,
        description="Time of a float layer over that of the same layer in integers: 1.5 to 2.6 on processors with VNNI.",
    )
    conversion: float = Field(
        4.0,
        ge=0,
        description="Converting one element between float and integer takes as long as this many float multiply-accumulates.",
    )


class SearchConfig(Closed):
    """How the layers are found."""

    ranking_images: Literal["all"] | Annotated[int, Field(ge=1)] = Field(
        400,
        description='Images on which each layer is tried in float, all of rare classes first; or "all" of validation and calibration. '
        "The search as such always uses all. One pass per layer: 400 take a minute or two for 50 layers.",
    )
    cost: CostConfig = CostConfig()


class SafeMixedInt8(Int8):
    """`ptq_int8`, less those layers whose rounding breaks the constraint."""

    step: Literal["safe_mixed_int8"]
    constraint: SafetyLimits = SafetyLimits()
    search: SearchConfig = SearchConfig()

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
