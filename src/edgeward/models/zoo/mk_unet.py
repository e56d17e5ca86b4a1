"""MK-UNet: depthwise kernels of three sizes in parallel, attention in the decoder and on the skips.

Rahman and Marculescu: MK-UNet: Multi-kernel Lightweight CNN for Medical Image Segmentation (ICCVW
2025, arXiv 2509.18493), section 3. Five sizes are published; they differ in `widths`. The authors
allocate heads at the coarser stages of the decoder and leave them unused; here they are what deep
supervision trains on (`train_outputs`), and a deployed model does not hold them.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeward.models.dense import BATCH_NORM, CONV, MAX_POOL, Segmenter, check_sides, enlarge

KERNELS = (1, 3, 5)
EXPAND = 2


def _conv_bn(dims: int, i: int, o: int, kernel: int, groups: int = 1) -> list[nn.Module]:
    conv = CONV[dims](i, o, kernel, padding=kernel // 2, groups=groups, bias=False)
    return [conv, BATCH_NORM[dims](o)]


class _Block(nn.Module):
    """Inverted residual whose depthwise kernels of several sizes are summed (MKIR)."""

    def __init__(self, dims: int, i: int, o: int) -> None:
        super().__init__()
        wide = EXPAND * i
        self.expand = nn.Sequential(*_conv_bn(dims, i, wide, 1), nn.ReLU6())
        self.kernels = nn.ModuleList(
            nn.Sequential(*_conv_bn(dims, wide, wide, k, wide), nn.ReLU6()) for k in KERNELS
        )
        self.groups = math.gcd(wide, o)
        self.project = nn.Sequential(*_conv_bn(dims, wide, o, 1))
        self.shortcut = nn.Identity() if i == o else CONV[dims](i, o, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(x)
        first, *others = [kernel(y) for kernel in self.kernels]
        for other in others:
            first = first + other
        mixed = first.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)
        return self.shortcut(x) + self.project(mixed)


class _ChannelAttention(nn.Module):
    def __init__(self, dims: int, channels: int, ratio: int) -> None:
        super().__init__()
        hidden = max(channels // ratio, 1)
        self.layers = nn.Sequential(
            CONV[dims](channels, hidden, 1, bias=False),
            nn.ReLU(),
            CONV[dims](hidden, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        over = tuple(range(2, x.dim()))
        pooled = self.layers(x.mean(over, keepdim=True)) + self.layers(x.amax(over, keepdim=True))
        return x * pooled.sigmoid()


class _SpatialAttention(nn.Module):
    def __init__(self, dims: int) -> None:
        super().__init__()
        self.conv = CONV[dims](2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * self.conv(pooled).sigmoid()


class _Gate(nn.Module):
    """A skip, weighted by what the decoder has so far (grouped attention gate)."""

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        conv, norm = CONV[dims], BATCH_NORM[dims]
        self.query = nn.Sequential(conv(channels, half, 3, padding=1, groups=half), norm(half))
        self.key = nn.Sequential(conv(channels, half, 3, padding=1, groups=half), norm(half))
        self.weight = nn.Sequential(conv(half, 1, 1), norm(1))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return skip * self.weight(F.relu(self.query(x) + self.key(skip))).sigmoid()


class MKUNet(Segmenter):
    """The network; keywords as in `zoo`.

    Parameters
    ----------
    widths : channels after each halving; the sides of the input must be divisible by all of them (five widths: 32).
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_chans: int,
        image_size: tuple[int, ...],
        drop_rate: float,
        widths: list[int],
    ) -> None:
        super().__init__()
        dims, stages = len(image_size), len(widths)
        check_sides(image_size, stages)
        self.copies = 3 if in_chans == 1 else 1  # grey images are taken as colour ones
        chain = [in_chans * self.copies, *widths]
        self.encoder = nn.ModuleList(_Block(dims, i, o) for i, o in pairwise(chain))
        self.pool = MAX_POOL[dims](2)
        self.spatial = _SpatialAttention(dims)
        out = [*reversed(widths[:-1]), widths[0]]
        deep = [widths[-1], *out[:-1]]
        ratios = [*[16] * (stages - 2), 8, 4]
        self.channel = nn.ModuleList(
            _ChannelAttention(dims, i, r) for i, r in zip(deep, ratios, strict=True)
        )
        self.decoder = nn.ModuleList(_Block(dims, i, o) for i, o in zip(deep, out, strict=True))
        self.gates = nn.ModuleList(_Gate(dims, width) for width in out[:-1])
        # The coarsest stage has no head.
        self.heads = nn.ModuleList(CONV[dims](width, num_classes, 1) for width in out[1:])
        self.drop = nn.Dropout(drop_rate)

    def _features(self, x: Tensor) -> list[Tensor]:
        """Return the outputs of the decoder's stages, coarsest first."""
        if self.copies > 1:
            x = torch.cat([x] * self.copies, 1)
        skips: list[Tensor] = []
        for block in self.encoder:
            x = self.pool(block(x))
            skips.append(x)
        found = []
        for stage, block in enumerate(self.decoder):
            x = self.spatial(self.channel[stage](x))
            x = F.relu(enlarge(block(x), align_corners=False))
            if stage < len(self.gates):
                x = x + self.gates[stage](x, skips[-2 - stage])
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.heads[-1](self.drop(self._features(x)[-1]))

    def train_outputs(self, x: Tensor) -> list[Tensor]:
        features = self._features(x)[1:]
        return [
            head(self.drop(feature))
            for head, feature in zip(reversed(self.heads), reversed(features), strict=True)
        ]


build = MKUNet
