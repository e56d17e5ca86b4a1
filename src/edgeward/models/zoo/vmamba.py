"""VMamba: SS2D and MLP blocks in four stages.

Liu et al.: VMamba: Visual State Space Model (arXiv 2401.10166), figure 3, in the form of the
released ``vmambav2v_tiny_224``: states of length 1, no gate, a two-convolution stem, stages joined
by strided convolutions. Everything between convolutions is channels last.
"""

from __future__ import annotations

import math

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from edgeward.models.ssm.ss2d import SS2D, start_linear


class _Block(nn.Module):
    def __init__(
        self, dim: int, size: tuple[int, int], mlp_ratio: float, drop_path: float, scan: dict
    ) -> None:
        super().__init__()
        hidden = int(mlp_ratio * dim)
        self.norm1 = nn.LayerNorm(dim)
        self.scan = SS2D(dim, size, gated=False, conv_bias=False, **scan)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.scan(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class _Reduce(nn.Module):
    """Strided 3x3 convolution and norm, channels last."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(i, o, 3, 2, 1)
        self.norm = nn.LayerNorm(o)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class VMamba(nn.Module):
    """The network; keywords as in `zoo`.

    Parameters
    ----------
    drop_path_rate : stochastic depth: probability of skipping the scan of the last block; rises linearly from 0 at the first.
    width : channels of the first stage; they double from stage to stage.
    depths : blocks of each stage; stages have strides 4, 8, 16, 32.
    mlp_ratio : hidden over outer channels of the MLPs.
    order : in which directions tokens are read: raster, bidirectional, cross (four) or wavefront (four, along diagonals).
    d_state : length of the state of a scanned channel; time and memory of the scan are proportional to it.
    expand : scanned channels over those of a stage.
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
        mlp_ratio: float,
        order: str,
        d_state: int,
        expand: float,
    ) -> None:
        super().__init__()
        scan = {"order": order, "d_state": d_state, "expand": expand}
        height, wide = (math.ceil(side / 4) for side in image_size)
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths)).tolist())
        layers: list[nn.Module] = [
            _Reduce(in_chans, width // 2),
            nn.GELU(),
            _Reduce(width // 2, width),
        ]
        for stage, depth in enumerate(depths):
            dim = width << stage
            if stage:
                layers.append(_Reduce(dim // 2, dim))
                height, wide = math.ceil(height / 2), math.ceil(wide / 2)
            layers += [
                _Block(dim, (height, wide), mlp_ratio, next(rates), scan) for _ in range(depth)
            ]
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(dim)
        self.drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(dim, num_classes)
        self.apply(start_linear)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.layers(x.permute(0, 2, 3, 1)))
        return self.head(self.drop(x.mean((1, 2))))


build = VMamba
