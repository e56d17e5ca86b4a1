"""Small files that show how fast ExecuTorch multiplies."""

from __future__ import annotations

from pathlib import Path

import torch

from edgeward.runtimes.base import Probe
from edgeward.runtimes.executorch.export import lowered
from edgeward.runtimes.layers import write_probes


def write(folder: Path) -> list[Probe]:
    """Write every network in fp32 and in INT8; return them."""

    def one(program: torch.export.ExportedProgram, path: Path) -> None:
        path.write_bytes(lowered(program, {})[0])

    return write_probes(folder, ".pte", one)
