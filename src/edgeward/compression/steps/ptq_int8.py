"""INT8 by calibration alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from edgeward.compression.steps._int8 import Int8

if TYPE_CHECKING:
    from edgeward.compression.candidate import Candidate


class PtqInt8(Int8):
    """Post-training quantization by neural-compressor, placed for the runtime whose file ships."""

    step: Literal["ptq_int8"]

    def apply(self, candidate: Candidate) -> None:
        """Calibrate, convert, export."""
        self.finish(candidate, self.calibrate(candidate))
