"""U-Lite: a U-Net whose spatial kernels are axial and depthwise.

Dinh et al.: 1M parameters are enough? A lightweight CNN-based model for medical image segmentation
(arXiv 2306.16103), figure 2. A long depthwise kernel becomes the sum of one along each axis and the
input itself; the skip of an encoder stage is taken at its full resolution, before it is reduced. On
volumes there are three axes instead of two.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeward.models.dense import BATCH_NORM, CONV, MAX_POOL, Segmenter, check_sides, double


class _Axial(nn.Module):
    """x plus a depthwise convolution along each axis, then (optionally) a batch norm."""

    def __init__(
        self, dims: int, channels: int, kernel: int, dilation: int = 1, norm: bool = False
    ) -> None:
        super().__init__()
        self.axes = nn.ModuleList()
        for axis in range(dims):
            shape = [kernel if other == axis else 1 for other in range(dims)]
            pad = [dilation * (k // 2) for k in shape]
            self.axes.append(
                CONV[dims](
                    channels, channels, shape, padding=pad, dilation=dilation, groups=channels
                )
            )
        self.norm = BATCH_NORM[dims](channels) if norm else nn.Identity()
        self.identity = True

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.identity else None
        for axis in self.axes:
            y = axis(x) if y is None else y + axis(x)
        return self.norm(y)

    @torch.no_grad()
    def reparameterize(self) -> None:
        """Fold the identity into the first kernel and the norm into all; in eval mode."""
        first = self.axes[0].weight
        first.view(len(first), -1)[:, first[0].numel() // 2] += 1
        self.identity = False
        if isinstance(self.norm, nn.Identity):
            return
        scale, shift = affine(self.norm)
        for axis in self.axes:
            axis.weight.mul_(scale.view(-1, *[1] * (axis.weight.dim() - 1)))
            axis.bias.mul_(scale)
        self.axes[0].bias.add_(shift)
        self.norm = nn.Identity()


def affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return scale and shift (c,) of a batch norm in eval mode."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


class _Down(nn.Module):
    """The skip at full resolution, and what goes on at half of it."""

    def __init__(self, dims: int, i: int, o: int, kernel: int) -> None:
        super().__init__()
        self.spatial = _Axial(dims, i, kernel, norm=True)
        self.channel = CONV[dims](i, o, 1)
        self.pool = MAX_POOL[dims](2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.spatial(x)
        return skip, F.gelu(self.pool(self.channel(skip)))


class _Up(nn.Module):
    """Twice the resolution, joined with the skip."""

    def __init__(self, dims: int, i: int, o: int, kernel: int) -> None:
        super().__init__()
        self.reduce = CONV[dims](i + o, o, 1)
        self.norm = BATCH_NORM[dims](o)
        self.spatial = _Axial(dims, o, kernel)
        self.channel = CONV[dims](o, o, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.norm(self.reduce(torch.cat([double(x), skip], 1)))
        return F.gelu(self.channel(self.spatial(x)))


class _Bottleneck(nn.Module):
    """Axial kernels of three dilations beside each other, on a quarter of the channels."""

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        quarter = channels // 4
        self.reduce = CONV[dims](channels, quarter, 1)
        self.branches = nn.ModuleList(_Axial(dims, quarter, 3, d) for d in (1, 2, 3))
        self.norm = BATCH_NORM[dims](4 * quarter)
        self.mix = CONV[dims](4 * quarter, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        x = torch.cat([x, *(branch(x) for branch in self.branches)], 1)
        return F.gelu(self.mix(self.norm(x)))

    @torch.no_grad()
    def reparameterize(self) -> None:
        """Fold the norm into the layer behind it; in eval mode."""
        scale, shift = affine(self.norm)
        weight = self.mix.weight
        self.mix.bias.add_(weight.flatten(1) @ shift)
        weight.mul_(scale.view(1, -1, *[1] * (weight.dim() - 2)))
        self.norm = nn.Identity()


class ULite(Segmenter):
    """The network; keywords as in `zoo`.

    Parameters
    ----------
    widths : channels at full resolution and after each halving; the sides of the input must be divisible by all halvings
        (six widths: 32).
    stem : side of the first kernel, odd. It is dense, so in a volume its cost grows with the third power.
    kernel : length of the axial kernels of encoder and decoder, odd.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_chans: int,
        image_size: tuple[int, ...],
        drop_rate: float,
        widths: list[int],
        stem: int,
        kernel: int,
    ) -> None:
        super().__init__()
        dims = len(image_size)
        check_sides(image_size, len(widths) - 1)
        pairs = list(pairwise(widths))
        self.stem = CONV[dims](in_chans, widths[0], stem, padding=stem // 2)
        self.down = nn.ModuleList(_Down(dims, i, o, kernel) for i, o in pairs)
        self.bottleneck = _Bottleneck(dims, widths[-1])
        self.up = nn.ModuleList(_Up(dims, o, i, kernel) for i, o in reversed(pairs))
        self.drop = nn.Dropout(drop_rate)
        self.head = CONV[dims](widths[0], num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        skips = []
        for down in self.down:
            skip, x = down(x)
            skips.append(skip)
        x = self.bottleneck(x)
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = up(x, skip)
        return self.head(self.drop(x))


build = ULite
