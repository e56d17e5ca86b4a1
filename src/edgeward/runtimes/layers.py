"""Small networks of one kind of layer, which show how fast an engine that takes programs multiplies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.ao.quantization.fx._decomposed  # registers the operators of pairs
import torch.nn.functional as F
from torch import Tensor, nn

from edgeward.runtimes.base import Probe

LAYERS = 4  # of one network, so that what happens at its ends does not count
# Name -> shape of the input, shape of each layer's weights; as those of onnxruntime, which see.
PROBES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "matmul_384": ((384, 384), (384, 384)),
    "conv_3x3_64": ((1, 64, 28, 28), (64, 64, 3, 3)),
    "conv_1x1_256": ((1, 256, 14, 14), (256, 256, 1, 1)),
}
SCALE, BITS = 0.01, (-128, 127, torch.int8)


class Layers(nn.Module):
    """Four layers of a probe one after the other; integer ones with pairs around every tensor.

    Attributes
    ----------
    example : float32, what it takes. macs : multiply-accumulates of one inference.
    """

    def __init__(self, name: str, *, integer: bool) -> None:
        super().__init__()
        shape, weights = PROBES[name]
        self.integer, self.example = integer, torch.ones(shape)
        self.macs = int(LAYERS * torch.ones(shape).numel() * torch.Size(weights[1:]).numel())
        made = torch.Generator().manual_seed(0)
        for i in range(LAYERS):
            values = torch.randint(-127, 128, weights, generator=made, dtype=torch.int8)
            self.register_buffer(f"weight{i}", values if integer else values * 1e-4)
        self.register_buffer("scales", torch.full(weights[:1], SCALE))
        self.register_buffer("zeros", torch.zeros(weights[0], dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Return the last layer's result, float32."""
        ops = torch.ops.quantized_decomposed
        x = self._paired(x)
        for i in range(LAYERS):
            weight = getattr(self, f"weight{i}")
            if self.integer:
                scales = (self.scales, self.zeros, 0, -127, 127, torch.int8)
                weight = ops.dequantize_per_channel(weight, *scales)
            layer = F.linear if weight.dim() == 2 else F.conv2d
            more = {} if weight.dim() == 2 else {"padding": weight.shape[-1] // 2}
            x = self._paired(layer(x, weight, **more))
        return x

    def _paired(self, x: Tensor) -> Tensor:
        if not self.integer:
            return x
        ops = torch.ops.quantized_decomposed
        levels = ops.quantize_per_tensor(x, SCALE, 0, *BITS)
        return ops.dequantize_per_tensor(levels, SCALE, 0, *BITS)


def write_probes(
    folder: Path, suffix: str, write: Callable[[torch.export.ExportedProgram, Path], None]
) -> list[Probe]:
    """Write every network in fp32 and in INT8 by an engine's converter; return them."""
    found = []
    for name in PROBES:
        for precision in ("fp32", "int8"):
            layers = Layers(name, integer=precision == "int8")
            path = folder / f"{name}_{precision}{suffix}"
            write(torch.export.export(layers, (layers.example,)), path)
            found.append(Probe(name, precision, layers.macs, path))
    return found
