"""Write a program as a Core ML package: ``python tools/coreml.py model.pt2 model.mlpackage`` (``pip install "edgeward[coreml]"``).

Of ``results/{data}/{model}/s{seed}/{recipe}/compress/model.pt2``, float or INT8, for one image. It converts on Linux, and runs on a Mac
alone, so nothing here compares its answers: docs/add-a-device.md says how to, there.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import coremltools
import torch

from edgeward.models.program import load_program
from edgeward.runtimes.program import of_one_image


def convert(program: torch.export.ExportedProgram, *, half: bool) -> coremltools.models.MLModel:
    """Return a program as an ML Program for macOS 14 and iOS 17, the first with int8 activations; `half`: layers in float16."""
    plain = of_one_image(program, lambda _: None).run_decompositions({})
    precision = coremltools.precision.FLOAT16 if half else coremltools.precision.FLOAT32
    return coremltools.convert(
        plain,
        minimum_deployment_target=coremltools.target.iOS17,
        compute_precision=precision,
        skip_model_load=True,
    )


def operators(model: coremltools.models.MLModel) -> Counter[str]:
    """Count the operators of the package's only function."""
    block = model.get_spec().mlProgram.functions["main"].block_specializations
    (body,) = block.values()
    return Counter(operation.type for operation in body.operations)


def main() -> None:
    """Convert, and print the operators."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=Path)
    parser.add_argument("package", type=Path)
    parser.add_argument("--half", action="store_true", help="layers in float16, Core ML's default")
    args = parser.parse_args()
    model = convert(load_program(args.program), half=args.half)
    model.save(str(args.package))
    for kind, count in operators(model).most_common():
        print(f"{count:5} {kind}")


if __name__ == "__main__":
    main()
