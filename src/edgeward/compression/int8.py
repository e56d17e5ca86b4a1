"""What PTQ and QAT to INT8 share: number format, calibration, exclusions, what is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from edgeward.compression.step import Step
from edgeward.core.config import Closed

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from edgeward.compression.workpiece import Workpiece


class CalibrationConfig(Closed):
    """Which images set the ranges of the activations."""

    images: Literal["all"] | Annotated[int, Field(ge=1)] = Field(
        "all",
        description="How many images of the calibration set (training images, see the data group), in seeded order. A few hundred do; "
        "more than the set holds is an error.",
    )
    batch_size: int = Field(
        32, ge=2, description="Images per forward pass: only speed and memory depend on it."
    )


class Int8(Step):
    """Settings of an integer model."""

    final: ClassVar[bool] = True
    keeps_zeros: ClassVar[bool] = True

    calibration: CalibrationConfig = CalibrationConfig()
    observer: Literal["minmax", "mean", "histogram"] = Field(
        "minmax",
        description="How the range of an activation is chosen: minmax covers all that was seen; mean takes the range of the average image, so "
        "that one image does not coarsen the steps of all; histogram cuts rare extremes where that lowers the mean squared error, and takes "
        "several times as long. None is best for every network (docs/experiments/ptq.md).",
    )
    reduce_range: Literal["auto"] | bool = Field(
        "auto",
        description="Weights of 7 bits, for x86 processors without VNNI, whose integer kernels saturate: with 8 bits there the file does "
        "not compute what the network does. auto: if this processor is one; false where the device is another than this machine.",
    )
    weight_granularity: Literal["per_channel", "per_tensor"] = Field(
        "per_channel",
        description="per_channel: a scale for each output channel of a weight; per_tensor: one for all of a layer, which costs accuracy "
        "where channels differ in range, as in reparameterised networks (docs/safe-compression.md).",
    )
    keep_float: list[str] = Field(
        [],
        description="Modules that stay float, by exact name (of a block: everything in it), e.g. `[net.stem, net.head.fc]`. For layers "
        "whose quantization costs accuracy; each costs some speed.",
    )

    @property
    def reduced(self) -> bool:
        """Whether weights have 7 bits."""
        from edgeward.compression.quantizer import QUANTIZER

        return QUANTIZER.saturates() if self.reduce_range == "auto" else self.reduce_range

    def calibrate(self, piece: Workpiece) -> GraphModule:
        """Return the module's graph with observers that have seen the calibration images."""
        from edgeward.compression import backend, calibration

        graph = backend.capture(piece.module, piece.example)
        prepared = backend.prepare_ptq(
            graph,
            piece.example,
            observer=self.observer,
            reduce_range=self.reduced,
            granularity=self.weight_granularity,
            keep_float=self.keep_float,
        )
        chosen = calibration.choose(piece.data, self.calibration.images, piece.seed)
        calibration.feed(prepared, piece.read, chosen, self.calibration.batch_size)
        piece.record["calibration"] = {
            "n": len(chosen),
            "sha256": calibration.fingerprint(piece.read, chosen),
        }
        piece.metrics["calibration_images"] = len(chosen)
        return prepared

    def finish(self, piece: Workpiece, prepared: GraphModule) -> None:
        """Convert, export and record."""
        from edgeward.compression import backend, numerics
        from edgeward.models.program import export_program

        converted = backend.convert(prepared)
        enlarged = numerics.quantize_biases(converted)
        share = backend.quantized_parameters(converted) / piece.parameters
        piece.program = export_program(converted, piece.example)
        piece.record |= {
            "precision": "int8",
            "backend": f"neural-compressor {backend.versions()['neural_compressor']}",
            "versions": backend.versions(),
            "scheme": self.scheme(),
            "keep_float": list(self.keep_float),
            "quantized_parameter_share": share,
        }
        piece.found |= {
            "float_layers": backend.float_layers(converted),
            "enlarged_weight_scales": enlarged,
        }
        piece.metrics["quantized_parameter_share"] = share

    def scheme(self) -> dict[str, Any]:
        """Return the number format, for the record."""
        from edgeward.compression.quantizer import QUANTIZER
        from edgeward.compression.schemes import weight_range

        low, high = weight_range(self.reduced)
        share = {"per_channel": "per output channel", "per_tensor": "per tensor"}
        return {
            "activation": "uint8, per tensor, affine, 0..255",
            "weight": f"int8, {share[self.weight_granularity]}, symmetric, {low}..{high}",
            "bias": "int32, input scale x weight scale",
            "observer": self.observer,
            "placement": QUANTIZER.title,
        }
