"""Small files that show how fast LiteRT multiplies."""

from __future__ import annotations

from pathlib import Path

import torch

from edgeward.runtimes.base import Probe
from edgeward.runtimes.layers import write_probes
from edgeward.runtimes.litert.export import convert, converter, edited


def write(folder: Path) -> list[Probe]:
    """Write every network in fp32 and in INT8; return them."""
    python = converter()

    def one(program: torch.export.ExportedProgram, path: Path) -> None:
        convert(python, edited(program), path)

    return write_probes(folder, ".tflite", one)
