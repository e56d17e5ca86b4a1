"""INT8 by calibration alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from edgeward.compression.int8 import Int8

if TYPE_CHECKING:
    from edgeward.compression.workpiece import Workpiece


class PtqInt8(Int8):
    """Post-training quantization by neural-compressor, placed for the runtime whose file ships."""

    step: Literal["ptq_int8"]

    def apply(self, piece: Workpiece) -> None:
        """Calibrate, convert, export."""
        self.finish(piece, self.calibrate(piece))
