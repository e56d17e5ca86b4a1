"""Where integer models have their quantize/dequantize pairs: where the runtime whose file ships wants them."""

from __future__ import annotations

from edgeward.core.plugins import load
from edgeward.runtimes.base import REFERENCE
from edgeward.runtimes.quantizer import EngineQuantizer

QUANTIZER: type[EngineQuantizer] = load(
    "edgeward.runtimes", REFERENCE, "quantizer", "the code"
).QUANTIZER
