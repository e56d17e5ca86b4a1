"""A way around a fault in the CPU kernels of torch."""

from __future__ import annotations

import torch
from torch import nn

VECTOR = 16  # float32 values in a register of AVX-512


class StridedPointwise(nn.Conv2d):
    """A 1 x 1 convolution with a stride; in training the pixels are picked first, which is the same."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(input)
        rows, columns = self.stride
        picked = input[:, :, ::rows, ::columns]
        return nn.functional.conv2d(picked, self.weight, self.bias)


def replace_strided_pointwise(net: nn.Module) -> None:
    """Let every 1 x 1 convolution with a stride, of few channels, pick its pixels itself in training.

    The weight gradient of such a layer in channels-last layout, from a number of channels that does
    not fill registers, writes beyond its buffer where images are large (oneDNN in torch 2.15, AVX-512:
    3 channels at 224 x 224, as in the stem of MobileOne): wrong memory, then a crash. Weights, names
    and the deployed graph stay.
    """
    for name, module in list(net.named_modules()):
        if (
            type(module) is nn.Conv2d
            and module.kernel_size == (1, 1)
            and module.stride != (1, 1)
            and module.padding == (0, 0)
            and module.groups == 1
            and module.in_channels % VECTOR
        ):
            biased = module.bias is not None
            # Without a device nothing is drawn for weights that are replaced at once.
            picking = StridedPointwise(
                module.in_channels,
                module.out_channels,
                1,
                module.stride,
                bias=biased,
                device="meta",
            )
            picking.weight, picking.bias = module.weight, module.bias
            net.set_submodule(name, picking.train(module.training))
