"""INT8 by calibration alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgeward.compression.int8 import Int8

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from edgeward.compression.workpiece import Workpiece

IMAGES = 64  # of the calibration set, in one batch; more of them change little


class PtqInt8(Int8):
    """Post-training quantization by neural-compressor, placed for the runtime whose file ships."""

    step: Literal["ptq_int8"]
    bias_correction: bool = Field(
        False,
        description="Shift biases so that rounding leaves the mean of every channel where it was (Nagel et al., ICCV 2019). Brings logits closer "
        "to the network's, and seldom decisions (docs/experiments/ptq.md); seconds.",
    )

    def apply(self, piece: Workpiece) -> None:
        """Calibrate, convert, export."""
        self.finish(piece, self.calibrate(piece))

    def convert(self, piece: Workpiece, prepared: GraphModule) -> GraphModule:
        """Return the integer graph, biases corrected where that is asked for."""
        from edgeward.compression import backend, bias, calibration

        converted = super().convert(piece, prepared)
        if self.bias_correction:
            chosen = calibration.choose(piece.data, self.calibration.images, piece.seed)[:IMAGES]
            images = calibration.batch(piece.read, chosen)
            graph = backend.capture(piece.module, piece.example)
            piece.found["biases_corrected"] = bias.correct(converted, graph, images)
        return converted
