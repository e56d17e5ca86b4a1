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

    images: Annotated[
        Literal["all"] | Annotated[int, Field(ge=1)],
        Field(description="how many of the calibration set, in seeded order"),
    ]
    batch_size: Annotated[int, Field(ge=2, description="images per forward pass")]


class Int8(Step):
    """Settings of an integer model."""

    final: ClassVar[bool] = True
    keeps_zeros: ClassVar[bool] = True

    calibration: CalibrationConfig
    observer: Annotated[
        Literal["minmax", "histogram"],
        Field(description="how a range is chosen from what was seen"),
    ]
    reduce_range: Annotated[bool, Field(description="7-bit weights, for x86 without VNNI")]
    weight_granularity: Annotated[
        Literal["per_channel", "per_tensor"],
        Field(description="what shares a scale: the weights of an output channel, or of a layer"),
    ]
    keep_float: Annotated[
        list[str], Field(description="modules that stay float, by their exact name")
    ]

    def calibrate(self, piece: Workpiece) -> GraphModule:
        """Return the module's graph with observers that have seen the calibration images."""
        from edgeward.compression import backend, calibration

        graph = backend.capture(piece.module, piece.example)
        prepared = backend.prepare_ptq(
            graph,
            piece.example,
            observer=self.observer,
            reduce_range=self.reduce_range,
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
            "float_layers": backend.float_layers(converted),
            "quantized_parameter_share": share,
            "enlarged_weight_scales": enlarged,
        }
        piece.metrics["quantized_parameter_share"] = share

    def scheme(self) -> dict[str, Any]:
        """Return the number format, for the record."""
        from edgeward.compression.quantizer import QUANTIZER
        from edgeward.compression.schemes import weight_range

        low, high = weight_range(self.reduce_range)
        share = {"per_channel": "per output channel", "per_tensor": "per tensor"}
        return {
            "activation": "uint8, per tensor, affine, 0..255",
            "weight": f"int8, {share[self.weight_granularity]}, symmetric, {low}..{high}",
            "bias": "int32, input scale x weight scale",
            "observer": self.observer,
            "placement": QUANTIZER.title,
        }
