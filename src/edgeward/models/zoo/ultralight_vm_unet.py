"""UltraLight VM-UNet: a U-Net of 49 thousand parameters whose deep stages are parallel Mamba blocks.

Wu et al.: UltraLight VM-UNet: Parallel Vision Mamba Significantly Reduces Parameters for Skin Lesion
Segmentation (arXiv 2403.20035), figures 2 to 4. The channels of a stage are cut into four groups,
and one small Mamba block, the same for all, scans each of them. Skips pass a bridge of spatial and
channel attention and are added. The authors' network ends in a sigmoid; this one in logits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeward.models.dense import CONV, MAX_POOL, Segmenter, check_sides, enlarge
from edgeward.models.ssm.mamba import Mamba

GROUPS = 4  # of channels that are scanned beside each other, and of the norms
CONVOLUTIONS = 3  # stages of encoder and decoder that convolve; the deeper ones scan


class ParallelMamba(nn.Module):
    """Norm, one Mamba block on each group of channels, the same norm, a linear layer (PVM)."""

    def __init__(self, i: int, o: int, grid: tuple[int, ...], scan: dict) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(i)
        self.mamba = Mamba(i // GROUPS, grid, **scan)
        self.skip_scale = nn.Parameter(torch.ones(1))
        self.proj = nn.Linear(i, o)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x.flatten(2).permute(2, 0, 1))  # (L, b, c)
        length, batch, channels = tokens.shape
        parts = tokens.reshape(length, batch * GROUPS, channels // GROUPS)
        parts = self.mamba(parts) + self.skip_scale * parts
        mixed = self.proj(self.norm(parts.reshape(length, batch, channels)))
        return mixed.permute(1, 2, 0).unflatten(2, x.shape[2:])


class _Bridge(nn.Module):
    """Weights the skips by where something is, and by what all of them hold together."""

    def __init__(self, dims: int, widths: list[int]) -> None:
        super().__init__()
        self.spatial = CONV[dims](2, 1, 7, padding=9, dilation=3)
        self.neighbours = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.channels = nn.ModuleList(nn.Linear(sum(widths), width) for width in widths)

    def forward(self, skips: list[Tensor]) -> list[Tensor]:
        dims = skips[0].dim() - 2
        placed = []
        for skip in skips:
            pooled = torch.cat([skip.mean(1, keepdim=True), skip.amax(1, keepdim=True)], 1)
            placed.append(skip * self.spatial(pooled).sigmoid())
        full = [skip + part for skip, part in zip(skips, placed, strict=True)]
        over = tuple(range(2, dims + 2))
        pooled = torch.cat([t.mean(over) for t in full], 1)
        pooled = self.neighbours(pooled.unsqueeze(1)).squeeze(1)
        return [
            t * weigh(pooled).sigmoid().reshape(-1, t.shape[1], *[1] * dims) + part
            for t, part, weigh in zip(full, placed, self.channels, strict=True)
        ]


class UltraLight(Segmenter):
    """The network; keywords as in `zoo`.

    Parameters
    ----------
    widths : channels of the six stages, multiples of 4; the last stage does not halve.
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
        widths: list[int],
        order: str,
        d_state: int,
        d_conv: int,
        expand: int,
    ) -> None:
        super().__init__()
        dims, halvings = len(image_size), len(widths) - 1
        check_sides(image_size, halvings)
        if any(width % GROUPS for width in widths):
            raise ValueError(f"widths {widths} must be multiples of {GROUPS}")
        scan = {"order": order, "d_state": d_state, "d_conv": d_conv, "expand": expand}

        def stage(i: int, o: int, depth: int, convolves: bool) -> nn.Module:
            if convolves:
                return CONV[dims](i, o, 3, padding=1)
            return ParallelMamba(i, o, tuple(side >> depth for side in image_size), scan)

        chain = [in_chans, *widths]
        self.encoder = nn.ModuleList(
            stage(i, o, depth, depth < CONVOLUTIONS)
            for depth, (i, o) in enumerate(zip(chain, widths, strict=False))
        )
        # A stage of the decoder works on the resolution of the skip that is added behind it,
        # before it is enlarged.
        self.decoder = nn.ModuleList(
            stage(
                widths[k + 1],
                widths[k],
                min(k + 2, halvings),
                k < CONVOLUTIONS - 1,
            )
            for k in reversed(range(halvings))
        )
        self.encoder_norms = nn.ModuleList(nn.GroupNorm(GROUPS, w) for w in widths[:-1])
        self.decoder_norms = nn.ModuleList(nn.GroupNorm(GROUPS, w) for w in widths[-2::-1])
        self.pool = MAX_POOL[dims](2)
        self.bridge = _Bridge(dims, widths[:-1])
        self.drop = nn.Dropout(drop_rate)
        self.head = CONV[dims](widths[0], num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for stage, norm in zip(self.encoder, self.encoder_norms, strict=False):
            x = F.gelu(self.pool(norm(stage(x))))
            skips.append(x)
        skips = self.bridge(skips)
        x = F.gelu(self.encoder[-1](x))
        for k, (stage, norm) in enumerate(zip(self.decoder, self.decoder_norms, strict=True)):
            x = norm(stage(x))
            if k:  # the deepest stage has the resolution of its skip already
                x = enlarge(x, align_corners=True)
            x = F.gelu(x) + skips[-1 - k]
        return enlarge(self.head(self.drop(x)), align_corners=True)


build = UltraLight
