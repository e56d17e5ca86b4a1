"""From a program to a LiteRT file, in the environment of the converter: ``python convert.py program.pt2 model.tflite``.

Not imported: `edgeward.runtimes.litert.export` starts it with another Python, whose torch is older.
"""

import sys

import litert_torch
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators of pairs


def main(source: str, target: str) -> None:
    """Convert a program whose example inputs are zeros of the shape that its placeholder has."""
    program = torch.export.load(source)
    image = next(n for n in program.graph.nodes if n.name == program.graph_signature.user_inputs[0])
    example = torch.zeros(*image.meta["val"].shape)
    litert_torch.convert(program.module(), (example,)).export(target)


main(*sys.argv[1:])
