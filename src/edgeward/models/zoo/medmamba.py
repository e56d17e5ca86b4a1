"""MedMamba: half of the channels convolved, half scanned in four directions, then shuffled.

Yue and Li: MedMamba: Vision Mamba for Medical Image Classification (arXiv 2403.03849), figure 2.
The published T, S and B have depths 2-2-4-2, 2-2-8-2 and 2-2-12-2 and widths 96, 96 and 128.
Stage widths double; there is no norm before the pooling.
"""

from __future__ import annotations

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from edgeward.models.ssm.ss2d import SS2D, start_linear


class _Block(nn.Module):
    """SS-Conv-SSM, channels last."""

    def __init__(self, dim: int, size: tuple[int, int], drop_path: float, scan: dict) -> None:
        super().__init__()
        half = dim // 2
        self.convolve = nn.Sequential(
            nn.BatchNorm2d(half),
            nn.Conv2d(half, half, 3, padding=1),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, half, 1),
            nn.ReLU(),
        )
        self.norm = nn.LayerNorm(half)
        self.scan = SS2D(half, size, gated=True, conv_bias=True, **scan)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, -1)
        left = self.convolve(left.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        right = self.drop_path(self.scan(self.norm(right)))
        return x + torch.stack([left, right], -1).flatten(-2)  # concatenated and shuffled


class _Merge(nn.Module):
    """Patch merging: each 2x2 tokens become one of twice the width; an odd row or column goes."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduce = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
        x = x[:, :height, :width].unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
        # Of a patch: (0, 0), (1, 0), (0, 1), (1, 1).
        return self.reduce(self.norm(x.permute(0, 1, 3, 4, 2, 5).flatten(3)))


class MedMamba(nn.Module):
    """The network; keywords as in `zoo`.

    Parameters
    ----------
    drop_path_rate : stochastic depth: probability of skipping the scan of the last block; rises linearly from 0 at the first.
    width : channels of the first stage; they double from stage to stage.
    depths : blocks of each stage; stages have strides 4, 8, 16, 32.
    order : in which directions tokens are read: raster, bidirectional, cross (four) or wavefront (four, along diagonals).
    d_state : length of the state of a scanned channel; time and memory of the scan are proportional to it.
    expand : scanned channels over half the channels of a stage.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_chans: int,
        image_size: tuple[int, int],
        drop_rate: float,
        drop_path_rate: float,
        width: int,
        depths: list[int],
        order: str,
        d_state: int,
        expand: float,
    ) -> None:
        super().__init__()
        scan = {"order": order, "d_state": d_state, "expand": expand}
        height, wide = (side // 4 for side in image_size)
        if min(height, wide) >> (len(depths) - 1) < 1:
            raise ValueError(
                f"{len(depths)} stages reduce {image_size} pixels by {4 << (len(depths) - 1)}, "
                "which leaves nothing"
            )
        self.embed = nn.Conv2d(in_chans, width, 4, 4)
        self.norm = nn.LayerNorm(width)
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths)).tolist())
        layers: list[nn.Module] = []
        for stage, depth in enumerate(depths):
            dim, size = width << stage, (height >> stage, wide >> stage)
            layers += [_Block(dim, size, next(rates), scan) for _ in range(depth)]
            if stage < len(depths) - 1:
                layers.append(_Merge(dim))
        self.layers = nn.Sequential(*layers)
        self.drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(width << (len(depths) - 1), num_classes)
        self.apply(_start)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x).permute(0, 2, 3, 1))
        return self.head(self.drop(self.layers(x).mean((1, 2))))


def _start(module: nn.Module) -> None:
    start_linear(module)
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


build = MedMamba
