"""What PTQ and QAT to INT8 share: number format, calibration, exclusions, what is recorded."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from edgeward.compression.step import Step
from edgeward.core.config import Closed

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from edgeward.compression.schemes import Observer
    from edgeward.compression.workpiece import Workpiece

logger = logging.getLogger(__name__)
ObserverChoice = Literal["auto", "minmax", "mean", "histogram"]


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
    observer: ObserverChoice = Field(
        "auto",
        description="How the range of an activation is chosen: minmax covers all that was seen; mean takes the range of the average image, so "
        "that one image does not coarsen the steps of all; histogram cuts rare extremes where that lowers the mean squared error, and takes "
        "several times as long. None is best for every network (docs/experiments/ptq.md); auto tries all three, and takes that whose "
        "probabilities on the calibration images are closest to those of the network before (Kullback-Leibler); no label is looked at.",
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

    def calibrate(self, piece: Workpiece, floating: Collection[str] | None = None) -> GraphModule:
        """Return the module's graph with observers that have seen the calibration images; `floating` as of `EngineQuantizer`.

        With `observer: auto` the choice is made once for a piece, and stands in its record: ``found.ranges`` holds each candidate's divergence,
        as `edgeward.compression.calibration.divergence` says.
        """
        from edgeward.compression import backend, calibration, numerics
        from edgeward.compression.schemes import OBSERVERS

        chosen = calibration.choose(piece.data, self.calibration.images, piece.seed)
        batch = self.calibration.batch_size
        piece.record["calibration"] = {
            "n": len(chosen),
            "sha256": calibration.fingerprint(piece.read, chosen),
        }
        piece.metrics["calibration_images"] = len(chosen)

        graph = backend.capture(piece.module, piece.example)

        def observed(name: Observer) -> GraphModule:
            prepared = backend.prepare_ptq(
                copy.deepcopy(graph),
                piece.example,
                observer=name,
                reduce_range=self.reduced,
                granularity=self.weight_granularity,
                keep_float=self.keep_float,
                floating=floating,
            )
            calibration.feed(prepared, piece.read, chosen, batch)
            return prepared

        def divergence(prepared: GraphModule) -> float:
            rounded = backend.convert(copy.deepcopy(prepared))
            numerics.quantize_biases(rounded)
            return calibration.divergence(
                rounded, piece.module, piece.read, chosen, batch, exclusive=piece.exclusive
            )

        tried: dict[Observer, GraphModule] = {}
        if self.observer == "auto" and "ranges" not in piece.found:
            tried = {name: observed(name) for name in OBSERVERS}
            piece.found["ranges"] = {name: divergence(tried[name]) for name in OBSERVERS}
        name = self.chosen_observer(piece)
        logger.info("ranges of activations: %s", name)
        return tried.get(name) or observed(name)

    def chosen_observer(self, piece: Workpiece) -> Observer:
        """Return the observer in use: that of the settings, or the one of the smallest divergence."""
        if self.observer != "auto":
            return self.observer
        ranges: dict[Observer, float] = piece.found["ranges"]
        return min(ranges, key=lambda name: ranges[name])

    def convert(self, piece: Workpiece, prepared: GraphModule) -> GraphModule:
        """Return the integer graph, its biases still float."""
        from edgeward.compression import backend

        del piece
        return backend.convert(prepared)

    def finish(self, piece: Workpiece, prepared: GraphModule) -> None:
        """Convert, export and record."""
        from edgeward.compression import backend, numerics
        from edgeward.models.program import export_program

        converted = self.convert(piece, prepared)
        enlarged = numerics.quantize_biases(converted)
        share = backend.quantized_parameters(converted) / piece.parameters
        piece.program = export_program(converted, piece.example)
        piece.record |= {
            "precision": "int8",
            "backend": f"neural-compressor {backend.versions()['neural_compressor']}",
            "versions": backend.versions(),
            "scheme": self.scheme(self.chosen_observer(piece)),
            "keep_float": list(self.keep_float),
            "quantized_parameter_share": share,
        }
        piece.found |= {
            "float_layers": backend.float_layers(converted),
            "enlarged_weight_scales": enlarged,
        }
        piece.metrics["quantized_parameter_share"] = share

    def scheme(self, observer: Observer) -> dict[str, Any]:
        """Return the number format, for the record."""
        from edgeward.compression.quantizer import QUANTIZER
        from edgeward.compression.schemes import weight_range

        low, high = weight_range(self.reduced)
        share = {"per_channel": "per output channel", "per_tensor": "per tensor"}
        return {
            "activation": "uint8, per tensor, affine, 0..255",
            "weight": f"int8, {share[self.weight_granularity]}, symmetric, {low}..{high}",
            "bias": "int32, input scale x weight scale",
            "observer": observer,
            "placement": QUANTIZER.title,
        }
