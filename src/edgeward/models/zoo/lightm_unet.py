"""LightM-UNet: a U-Net whose encoder is made of Mamba blocks at every resolution.

Liao et al.: LightM-UNet: Mamba Assists in Lightweight UNet for Medical Image Segmentation (arXiv
2403.05246), figure 2, in the form of the released code, for images and volumes. The published size
(1.09 M in 2-D, 1.87 M in 3-D) is not that of the released network, which has 5.01 M at the width of
32 that its trainer sets.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeward.models.dense import CONV, MAX_POOL, Segmenter, check_sides, enlarge
from edgeward.models.ssm.mamba import Mamba

GROUPS = 8  # of the norms
DOWN = (1, 2, 2, 4)  # residual Mamba blocks of each stage of the encoder


class MambaLayer(nn.Module):
    """Norm, Mamba block with a scaled shortcut from before the norm, the same norm, a linear layer."""

    def __init__(self, i: int, o: int, grid: tuple[int, ...], scan: dict) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(i)
        self.mamba = Mamba(i, grid, **scan)
        self.skip_scale = nn.Parameter(torch.ones(1))
        self.proj = nn.Linear(i, o)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).permute(2, 0, 1)  # (L, b, c)
        mixed = self.mamba(self.norm(tokens)) + self.skip_scale * tokens
        return self.proj(self.norm(mixed)).permute(1, 2, 0).unflatten(2, x.shape[2:])


class _MambaBlock(nn.Module):
    """Two layers, each behind a norm and a ReLU; residual."""

    def __init__(self, dim: int, grid: tuple[int, ...], scan: dict) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, dim)
        self.layer1 = MambaLayer(dim, dim, grid, scan)
        self.norm2 = nn.GroupNorm(GROUPS, dim)
        self.layer2 = MambaLayer(dim, dim, grid, scan)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer1(F.relu(self.norm1(x)))
        return x + self.layer2(F.relu(self.norm2(y)))


def _separable(dims: int, i: int, o: int, kernel: int, bias: bool = False) -> nn.Sequential:
    conv = CONV[dims]
    return nn.Sequential(
        conv(i, i, kernel, padding=kernel // 2, groups=i, bias=bias), conv(i, o, 1, bias=bias)
    )


class _UpBlock(nn.Module):
    """Norm, ReLU, separable convolution with a scaled shortcut, norm, ReLU."""

    def __init__(self, dims: int, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, dim)
        self.conv = _separable(dims, dim, dim, 3)
        self.skip_scale = nn.Parameter(torch.ones(1))
        self.norm2 = nn.GroupNorm(GROUPS, dim)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(F.relu(self.norm1(x))) + self.skip_scale * x
        return F.relu(self.norm2(y))


class LightMUNet(Segmenter):
    """The network; keywords as in `zoo`.

    Parameters
    ----------
    width : channels at full resolution, a multiple of 8; they double with each of three halvings. The authors' trainer has
        32 (5.01 M parameters).
    order : in which directions tokens are read: raster (one, as published), bidirectional, cross (4; 6 in a volume) or
        wavefront (4; 8). The directions share their weights, so the size stays; time grows with their number.
    d_state : length of the state of each scanned channel; time and memory of the scan are proportional to it.
    d_conv : taps of the causal convolution before the scan.
    expand : scanned channels over those of the layer.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_chans: int,
        image_size: tuple[int, ...],
        drop_rate: float,
        width: int,
        order: str,
        d_state: int,
        d_conv: int,
        expand: int,
    ) -> None:
        super().__init__()
        dims = len(image_size)
        check_sides(image_size, len(DOWN) - 1)
        if width % GROUPS:
            raise ValueError(f"width {width} must be a multiple of {GROUPS}")
        scan = {"order": order, "d_state": d_state, "d_conv": d_conv, "expand": expand}
        self.stem = _separable(dims, in_chans, width, 3)
        self.down = nn.ModuleList()
        for stage, blocks in enumerate(DOWN):
            dim = width << stage
            grid = tuple(side >> stage for side in image_size)
            layers: list[nn.Module] = []
            if stage:
                finer = tuple(2 * side for side in grid)
                layers += [MambaLayer(dim // 2, dim, finer, scan), MAX_POOL[dims](2)]
            layers += [_MambaBlock(dim, grid, scan) for _ in range(blocks)]
            self.down.append(nn.Sequential(*layers))
        widths = [width << stage for stage in reversed(range(len(DOWN) - 1))]
        self.reduce = nn.ModuleList(CONV[dims](2 * dim, dim, 1, bias=False) for dim in widths)
        self.up = nn.ModuleList(_UpBlock(dims, dim) for dim in widths)
        self.norm = nn.GroupNorm(GROUPS, width)
        self.drop = nn.Dropout(drop_rate)
        self.head = _separable(dims, width, num_classes, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        found = []
        for down in self.down:
            x = down(x)
            found.append(x)
        for reduce, up, skip in zip(self.reduce, self.up, found[-2::-1], strict=True):
            x = up(enlarge(reduce(x), align_corners=False) + skip)
        return self.head(self.drop(F.relu(self.norm(x))))


build = LightMUNet
