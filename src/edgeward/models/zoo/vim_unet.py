"""A U-Net of HSM-SSD blocks: a state-space network for segmentation without a scan. Of our own design.

The encoder is that of EfficientViM (`edgeward.models.zoo.efficientvim`): a convolution at half of the resolution, then stages of
blocks, each at half of the one before. Mixers begin at a quarter of the resolution, where tokens are few enough. The decoder has no
mixer: each step doubles a map, adds the skip, and refines both with a depthwise and a pointwise convolution. Logits are
computed at half of the resolution and enlarged linearly.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from torch import Tensor, nn

from edgeward.models.dense import CONV, Segmenter, check_sides, double, enlarge
from edgeward.models.zoo.efficientvim import Block, Halving
from edgeward.models.zoo.ssd import conv_bn


class _Stage(nn.Module):
    """Half the resolution, then blocks."""

    def __init__(self, halving: Halving, blocks: Iterable[Block]) -> None:
        super().__init__()
        self.halving, self.blocks = halving, nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.halving(x)
        for block in self.blocks:
            x, _ = block(x)
        return x


class _Up(nn.Module):
    """Fewer channels, twice the resolution, the skip added, and both refined."""

    def __init__(self, dim: int, out: int, axes: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(*conv_bn(axes, dim, out, 1))
        self.refine = nn.Sequential(
            *conv_bn(axes, out, out, 3, groups=out), *conv_bn(axes, out, out, 1), nn.ReLU()
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.refine(double(self.reduce(x)) + skip)


class ViMUNet(Segmenter):
    """The network; keywords as in `zoo`, of images or volumes.

    Parameters
    ----------
    dims : channels at half of the resolution and after each further halving; the sides of the input must be divisible by all.
    depths : blocks after each further halving. states : columns of the state there.
    expand : inner over outer channels of the state. ratio : hidden over outer channels of the pointwise pairs.
    share : what each branch of a block begins with beside its input, as in EfficientViM.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_chans: int,
        image_size: tuple[int, ...],
        drop_rate: float,
        dims: list[int],
        depths: list[int],
        states: list[int],
        expand: float,
        ratio: float,
        share: float,
    ) -> None:
        super().__init__()
        if not len(dims) - 1 == len(depths) == len(states):
            raise ValueError(
                f"depths {depths} and states {states} must have one entry for each of dims {dims} but the first"
            )
        axes = len(image_size)
        check_sides(image_size, len(dims))
        self.stem = nn.Sequential(*conv_bn(axes, in_chans, dims[0], 3, 2), nn.ReLU())
        pairs = list(itertools.pairwise(dims))
        self.stages = nn.ModuleList(
            _Stage(
                Halving(i, o, ratio, axes),
                [Block(o, n, expand, ratio, share, axes) for _ in range(depth)],
            )
            for (i, o), depth, n in zip(pairs, depths, states, strict=True)
        )
        self.up = nn.ModuleList(_Up(o, i, axes) for i, o in reversed(pairs))
        self.drop = nn.Dropout(drop_rate)
        self.head = CONV[axes](dims[0], num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        skips = []
        for stage in self.stages:
            skips.append(x)
            x = stage(x)
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = up(x, skip)
        return enlarge(self.head(self.drop(x)), align_corners=False)


build = ViMUNet
