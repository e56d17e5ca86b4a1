"""A state-space backbone made to be deployed: SSD (Mamba-2) on operators that engines have.

The recurrence is that of Mamba-2 (Dao and Gu, arXiv 2405.21060): one decay per head and token,
heads of 32, so that it runs on the fused operator LinearAttention of stock onnxruntime; S6 proper,
with a decay for every channel and state, has no such form. The rest is arranged so that little of
the time goes into moving data between layouts, which is what makes vision state-space models slow:

- each direction of the scan order has heads of its own, instead of all channels once per direction:
  four directions cost as much as one (channel-split scans as in MSVMamba and GroupMamba);
- queries, keys, values and gates are separate products of the same tokens, so nothing is split, and
  queries and keys are shared by the heads of a direction, so nothing is repeated;
- a direction is a permutation of token rows: one gather there, one back;
- every layer is followed by a batch norm, which is folded into it; of norms, only the one of the
  tokens before a scan remains when deployed;
- local mixing is left to the convolutional blocks between, as in EfficientFormerV2's early stages.

An image unlike all others must not blow up. A block of Mamba multiplies five functions of its input
(query, key, value, step, gate). Fed with batch-normalised values alone, one odd image in a hundred
reached activations of 1e10 and NaN a few blocks later, in networks with good validation figures. So
tokens are layer-normalised first, as in Mamba: what a block adds is bounded, whatever its input. And
the gate is a sigmoid, and the step enters through the exact zero-order hold 1 - exp(g) instead of
Mamba's approximation dt of it (arXiv 2312.00752, eq. 4; the factor 1/A goes into the weights): the
state is a weighted mean of what was seen.

Left out against Mamba-2: the causal convolution (the blocks before do its work), the skip ``D u``
(the residual connection is one), and the norm before the output projection (its batch norm comes
after).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeward.models.dense import BATCH_NORM, CONV
from edgeward.models.ssm.gated import gated_scan
from edgeward.models.ssm.orders import inverse, order_indices
from edgeward.models.ssm.ss2d import start_steps

AXES = (2, 3)


def conv_bn(
    axes: int, i: int, o: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    conv = CONV[axes](i, o, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, BATCH_NORM[axes](o)]


def linear_bn(i: int, o: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(i, o, bias=False), nn.BatchNorm1d(o))


class ConvBlock(nn.Module):
    """Depthwise, 3 along each axis, then two pointwise layers; residual."""

    def __init__(self, dim: int, expand: int, axes: int) -> None:
        super().__init__()
        hidden = expand * dim
        self.body = nn.Sequential(
            *conv_bn(axes, dim, dim, 3, groups=dim),
            *conv_bn(axes, dim, hidden, 1),
            nn.ReLU(),
            *conv_bn(axes, hidden, dim, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class TokenBlock(nn.Module):
    """Mixes the tokens of an image by a recurrence, between a norm and a gate; residual.

    Parameters
    ----------
    dim : channels in and out. inner : channels that are scanned. maps : channels of queries and keys.
    """

    def __init__(self, dim: int, inner: int, maps: int) -> None:
        super().__init__()
        self.inner = inner
        self.norm = nn.LayerNorm(dim)
        self.query = linear_bn(dim, maps)
        self.key = linear_bn(dim, maps)
        self.value = linear_bn(dim, inner)
        self.gate = linear_bn(dim, inner)
        self.out = linear_bn(inner, dim)

    def mix(self, tokens: Tensor, batch: int) -> Tensor:
        """Return the scanned channels of tokens (batch * t, dim), `inner` for each, in their order."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        batch, dim, *grid = x.shape
        axes = range(2, x.ndim)
        tokens = self.norm(x.permute(0, *axes, 1).reshape(-1, dim))
        mixed = self.mix(tokens, batch).reshape(-1, self.inner) * self.gate(tokens).sigmoid()
        back = self.out(mixed).reshape(batch, *grid, dim)
        return x + back.permute(0, x.ndim - 1, *(axis - 1 for axis in axes))


class ScanBlock(TokenBlock):
    """SSD over all tokens of the image, in every direction of a scan order.

    Parameters
    ----------
    dim : channels in and out. inner : channels that are scanned, split over the directions.
    size : (height, width) of the token grid, or (depth, height, width). order : of `models.ssm.orders`.
    state : length of queries and keys. head : channels per head.
    """

    forth: Tensor
    back: Tensor

    def __init__(
        self, dim: int, inner: int, size: tuple[int, ...], order: str, state: int, head: int
    ) -> None:
        indices = order_indices(order, *size)
        directions, tokens = indices.shape
        heads, rest = divmod(inner, directions * head)
        if rest or not heads:
            raise ValueError(
                f"{inner} scanned channels cannot be split into heads of {head} for the "
                f"{directions} directions of order '{order}'"
            )
        super().__init__(dim, inner, directions * state)
        self.directions, self.heads = directions, heads
        # Rows of (token, direction), and of (direction, token), that come next in the other layout.
        k = torch.arange(directions)[:, None]
        forth = torch.from_numpy(indices) * directions + k
        back = torch.from_numpy(inverse(indices)) + k * tokens
        self.register_buffer("forth", forth.flatten(), persistent=False)
        self.register_buffer("back", back.T.flatten(), persistent=False)
        self.step = nn.Linear(dim, directions * heads)
        self.rate = nn.Parameter(torch.empty(directions * heads))
        with torch.no_grad():  # decay rates in 1..16 and steps in 1e-3..0.1, as in Mamba-2
            self.rate.uniform_(1, 16).log_()
            self.step.bias.copy_(start_steps(directions * heads))

    def _scatter(self, rows: Tensor, batch: int) -> Tensor:
        """Reorder (b * t, directions * c) to (b * directions, t, c)."""
        split = rows.reshape(batch, len(self.forth), -1).index_select(1, self.forth)
        return split.reshape(batch * self.directions, -1, split.shape[2])

    def mix(self, tokens: Tensor, batch: int) -> Tensor:
        decay = F.softplus(self.step(tokens)) * -self.rate.exp()
        hold = 1 - decay.exp()
        held = self.value(tokens).unflatten(1, (hold.shape[1], -1)) * hold.unsqueeze(2)
        mixed = gated_scan(
            self._scatter(self.query(tokens), batch),
            self._scatter(self.key(tokens), batch),
            self._scatter(held.flatten(1), batch),
            self._scatter(decay, batch),
            self.heads,
            1,
        )
        return mixed.reshape(batch, len(self.back), -1).index_select(1, self.back)


def build(
    *,
    num_classes: int,
    in_chans: int,
    image_size: tuple[int, ...],
    drop_rate: float,
    dims: list[int],
    inner: list[int],
    blocks: str,
    expand: int,
    order: str,
    state: int,
    head: int,
) -> nn.Module:
    """Build the backbone, of images or volumes: a stem of stride 4, stages at strides 4, 8, 16, .., pooling, a classifier.

    Parameters
    ----------
    dims : channels of each stage; stages have strides 4, 8, 16 and 32.
    inner : channels that the scans of each stage work on: a multiple of `head` times the directions of the order.
    blocks : what each stage is made of, e.g. ``"cs-csc-cscsc-csc"``: c convolution, s scan.
    expand : hidden over outer channels of the convolutional blocks.
    order : in which directions tokens are read: raster, bidirectional, cross (four) or wavefront (four, along diagonals); of volumes cross has six directions and wavefront eight.
    state : length of the state per channel.
    head : channels that share one decay; below 32 the fused operator loses its speed.
    """

    def scan(dim: int, inner: int, grid: tuple[int, ...]) -> nn.Module:
        return ScanBlock(dim, inner, grid, order, state, head)

    return backbone(num_classes, in_chans, image_size, drop_rate, dims, inner, blocks, expand, scan)


def backbone(
    num_classes: int,
    in_chans: int,
    image_size: tuple[int, ...],
    drop_rate: float,
    dims: list[int],
    inner: list[int],
    blocks: str,
    expand: int,
    scan: Callable[[int, int, tuple[int, ...]], nn.Module],
) -> nn.Module:
    """Build the backbone of `build` around any scan block.

    Parameters
    ----------
    scan : makes a block from its channels in and out, its scanned channels, and the token grid.
    """
    plan = blocks.split("-")
    if not len(plan) == len(dims) == len(inner) or set(blocks) - set("cs-"):
        raise ValueError(
            f"blocks '{blocks}' must describe {len(dims)} stages with the letters c and s, one for "
            f"each of dims {dims} and inner {inner}"
        )
    axes = len(image_size)
    layers: list[nn.Module] = [
        *conv_bn(axes, in_chans, dims[0] // 2, 3, 2),
        nn.ReLU(),
        *conv_bn(axes, dims[0] // 2, dims[0], 3, 2),
        nn.ReLU(),
    ]
    grid = tuple(math.ceil(side / 4) for side in image_size)
    previous = dims[0]
    for number, (dim, scanned, letters) in enumerate(zip(dims, inner, plan, strict=True)):
        if number:
            layers += conv_bn(axes, previous, dim, 3, 2)
            grid = tuple(math.ceil(side / 2) for side in grid)
        for letter in letters:
            layers.append(
                ConvBlock(dim, expand, axes) if letter == "c" else scan(dim, scanned, grid)
            )
        previous = dim
    return nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool2d(1) if axes == 2 else nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Dropout(drop_rate),
        nn.Linear(previous, num_classes),
    )
