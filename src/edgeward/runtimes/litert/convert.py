"""From a program to a LiteRT file, in the environment of the converter: ``python convert.py program.pt2 model.tflite``.

Not imported: `edgeward.runtimes.litert.export` starts it with another Python, whose torch is older.
"""

import sys

import litert_torch
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators of pairs
from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
from litert_torch.quantize.quant_config import QuantConfig


def main(source: str, target: str) -> None:
    """Convert a program whose example inputs are zeros of the shape that its placeholder has."""
    program = torch.export.load(source)
    image = next(n for n in program.graph.nodes if n.name == program.graph_signature.user_inputs[0])
    example = torch.zeros(*image.meta["val"].shape)
    how = None
    if any("quantized_decomposed" in str(node.target) for node in program.graph.nodes):
        # Only says that pairs are there, with ranges: without it layers between them are left in float.
        ranges = get_symmetric_quantization_config(is_per_channel=True)
        how = QuantConfig(pt2e_quantizer=PT2EQuantizer().set_global(ranges))
    litert_torch.convert(program.module(), (example,), quant_config=how).export(target)


main(*sys.argv[1:])
